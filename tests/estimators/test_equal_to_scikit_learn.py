"""Equality with scikit-learn: weights, losses and predictions for the same arguments and order of rows."""

import inspect
import warnings

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier, MLPRegressor

import fastmlp as fm

N, FEATURES = 230, 6
PAIRS = {"classifier": (MLPClassifier, fm.MLPClassifier), "regressor": (MLPRegressor, fm.MLPRegressor)}


def task(name):
    rng = np.random.default_rng(1)
    X = rng.normal(size=(N, FEATURES))
    score = X @ rng.normal(size=(FEATURES, 3)) + 0.1 * rng.normal(size=(N, 3))
    return X, {
        "binary": np.where(score[:, 0] > 0, "yes", "no"),
        "classes": np.array(["a", "b", "c"])[score.argmax(axis=1)],
        "labels": (score > 0).astype(int),
        "one": score[:, 0],
        "three": score,
        "counts": rng.poisson(np.exp(0.3 * score[:, 0])).astype(float),
    }[name]


CASES = {
    "binary": ("classifier", {}),
    "classes": ("classifier", {}),
    "labels": ("classifier", {}),
    "one": ("regressor", {}),
    "three": ("regressor", {}),
    "counts": ("regressor", {"loss": "poisson"}),
}
SOLVERS = {
    "sgd": {"solver": "sgd"},
    "plain sgd": {"solver": "sgd", "momentum": 0.0},
    "classical momentum": {"solver": "sgd", "nesterovs_momentum": False},
    "invscaling": {"solver": "sgd", "learning_rate": "invscaling", "power_t": 0.2},
    "adaptive": {"solver": "sgd", "learning_rate": "adaptive", "tol": 0.05, "n_iter_no_change": 2, "max_iter": 40},
    "adam": {"solver": "adam", "epsilon": 1e-12},
    "lbfgs": {"solver": "lbfgs", "max_iter": 5},
}


def both(kind, X, y, weight=None, **options):
    made = []
    for estimator in PAIRS[kind]:
        net = estimator(
            **{"hidden_layer_sizes": (9, 5), "activation": "tanh", "shuffle": False, "random_state": 3, "alpha": 0.5,
               "batch_size": 50, "max_iter": 6, "learning_rate_init": 0.02, **options}
        )  # fmt: skip
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            made.append(net.fit(X, y, sample_weight=weight))
    return made


def assert_same(ref, comp, X, rtol=1e-7):
    for name in ("coefs_", "intercepts_"):
        for a, b in zip(getattr(ref, name), getattr(comp, name), strict=True):
            np.testing.assert_allclose(b, a, rtol, rtol * np.abs(a).max())
    np.testing.assert_allclose(comp.loss_, ref.loss_, rtol)
    if hasattr(ref, "loss_curve_"):
        np.testing.assert_allclose(comp.loss_curve_, ref.loss_curve_, rtol)
    for name in ("n_iter_", "t_", "n_layers_", "n_outputs_", "out_activation_", "n_features_in_"):
        assert getattr(comp, name) == getattr(ref, name), name
    answers = ref.predict(X)
    if answers.dtype.kind == "f":
        np.testing.assert_allclose(comp.predict(X), answers, 10 * rtol, 10 * rtol)
    else:
        assert comp.predict(X).dtype == answers.dtype
        np.testing.assert_array_equal(comp.predict(X), answers)
        np.testing.assert_allclose(comp.predict_proba(X), ref.predict_proba(X), 10 * rtol, 10 * rtol)
        np.testing.assert_allclose(comp.predict_log_proba(X), ref.predict_log_proba(X), 10 * rtol, 10 * rtol)


@pytest.mark.parametrize("kind", PAIRS)
def test_signature(kind):
    """Theirs are a prefix of ours for positions, with their defaults; all of ours beyond are keywords."""
    theirs, ours = (inspect.signature(estimator).parameters for estimator in PAIRS[kind])
    positional = inspect.Parameter.POSITIONAL_OR_KEYWORD
    assert [p for p in theirs if theirs[p].kind is positional] == [p for p in ours if ours[p].kind is positional]
    assert [p for p in ours if p in theirs] == list(theirs)
    assert {name: p.default for name, p in theirs.items()} == {name: ours[name].default for name in theirs}
    for method in ("fit", "partial_fit", "predict"):
        theirs, ours = (inspect.signature(getattr(estimator, method)).parameters for estimator in PAIRS[kind])
        assert list(ours)[: len(theirs)] == list(theirs)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("case", CASES)
def test_same_fit(case, solver):
    (kind, options), (X, y) = CASES[case], task(case)
    ref, comp = both(kind, X, y, **options, **SOLVERS[solver])
    assert_same(ref, comp, X, 1e-4 if solver == "lbfgs" else 1e-6)


@pytest.mark.parametrize("activation", ["relu", "logistic", "identity"])
def test_activations(activation):
    X, y = task("classes")
    assert_same(*both("classifier", X, y, activation=activation, solver="sgd"), X)


@pytest.mark.parametrize("case", ["classes", "labels", "three"])
def test_sample_weights(case):
    (kind, options), (X, y) = CASES[case], task(case)
    weight = np.random.default_rng(0).uniform(0.1, 3, N)
    assert_same(*both(kind, X, y, weight, solver="sgd", **options), X)


def test_float32_stays_float32():
    X, y = task("three")
    ref, comp = both("regressor", X.astype(np.float32), y, solver="sgd")
    assert_same(ref, comp, X.astype(np.float32), 1e-4)
    assert comp.predict(X).dtype == np.float32 and comp.coefs_[0].dtype == np.float32


@pytest.mark.parametrize("case", ["binary", "three"])
def test_early_stopping(case):
    (kind, options), (X, y) = CASES[case], task(case)
    ref, comp = both(kind, X, y, solver="sgd", early_stopping=True, max_iter=60, n_iter_no_change=3, **options)
    assert_same(ref, comp, X)
    np.testing.assert_allclose(comp.validation_scores_, ref.validation_scores_, 1e-7)
    assert comp.best_validation_score_ == pytest.approx(ref.best_validation_score_) and comp.best_loss_ is None


def test_partial_fit_and_warm_start():
    X, y = task("classes")
    for call in ("partial_fit", "fit"):
        made = []
        for estimator in PAIRS["classifier"]:
            net = estimator((7,), solver="sgd", shuffle=False, random_state=0, warm_start=call == "fit", max_iter=3)
            for _ in range(3):
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", ConvergenceWarning)
                    getattr(net, call)(X, y, **({"classes": np.unique(y)} if call == "partial_fit" else {}))
            made.append(net)
        assert_same(*made, X)
