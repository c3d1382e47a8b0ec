"""State of an estimator between calls: changed parameters, copies, other solvers."""

import copy
import io
import pickle
import warnings

import joblib
import numpy as np
import pytest
from checks import assert_matches
from sklearn.base import clone
from sklearn.datasets import make_classification
from sklearn.metrics import r2_score
from sklearn.utils._param_validation import InvalidParameterError

import fastmlp as fm
from fastmlp import MLPClassifier, MLPRegressor

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

X, Y = make_classification(90, 8, n_informative=5, n_classes=3, random_state=0)
SMALL = {"hidden_layer_sizes": (6, 5), "random_state": 0, "batch_size": 30, "max_iter": 3, "learning_rate_init": 0.01}


def _by_joblib(net):
    stream = io.BytesIO()
    joblib.dump(net, stream)
    stream.seek(0)
    return joblib.load(stream)


COPIES = {"pickle": lambda net: pickle.loads(pickle.dumps(net)), "deepcopy": copy.deepcopy, "joblib": _by_joblib}


def classifier(**options):
    return MLPClassifier(**{**SMALL, **options})


def trained(net, times=3):
    for _ in range(times):
        net.partial_fit(X, Y, classes=[0, 1, 2]) if isinstance(net, MLPClassifier) else net.partial_fit(X, X[:, 0])
    return net


def weights(net):
    return [*net.coefs_, *net.intercepts_]


def same(one, other):
    return all(np.array_equal(a, b) for a, b in zip(weights(one), weights(other), strict=True))


# ------------------------------------------------------------------------- parameters that change

# What the estimator was made with, and what is set after some calls of partial_fit.
CHANGES = {
    "activation": ({}, {"activation": "tanh"}),
    "dropout on": ({}, {"dropout": 0.5}),
    "dropout off": ({"dropout": 0.5}, {"dropout": 0.0}),
    "dropout": ({"dropout": 0.5}, {"dropout": 0.2}),
    "dropout beside layer_norm": ({"layer_norm": True}, {"dropout": 0.5}),
    "layer_norm on": ({}, {"layer_norm": True}),
    "layer_norm off": ({"layer_norm": True}, {"layer_norm": False}),
    "alpha": ({}, {"alpha": 10.0}),
    "rate of adam": ({}, {"learning_rate_init": 0.1}),
    "beta_1": ({}, {"beta_1": 0.5}),
    "beta_2": ({}, {"beta_2": 0.5}),
    "epsilon": ({}, {"epsilon": 0.1}),
    "rate of sgd": ({"solver": "sgd"}, {"learning_rate_init": 0.1}),
    "momentum": ({"solver": "sgd"}, {"momentum": 0.5}),
    "no momentum": ({"solver": "sgd"}, {"momentum": 0.0}),
    "some momentum": ({"solver": "sgd", "momentum": 0.0}, {"momentum": 0.5}),
    "nesterov": ({"solver": "sgd"}, {"nesterovs_momentum": False}),
    "schedule": ({"solver": "sgd"}, {"learning_rate": "invscaling"}),
    "power_t": ({"solver": "sgd", "learning_rate": "invscaling"}, {"power_t": 0.1}),
    "solver": ({}, {"solver": "sgd"}),
    "batch_size": ({}, {"batch_size": 10}),
    "shuffle": ({}, {"shuffle": False}),
    "shuffle again": ({"shuffle": False}, {"shuffle": "windows"}),
    "random_state": ({}, {"random_state": 10**6}),
    "a generator": ({}, {"random_state": np.random.RandomState(3)}),
    "class_weight": ({}, {"class_weight": {1: 5.0}}),
    "augment": ({}, {"augment": fm.GaussianNoise(0.5)}),
    "backend": ({}, {"backend": "numpy"}),
    "several": ({"solver": "sgd"}, {"momentum": 0.3, "dropout": 0.3, "activation": "elu", "alpha": 0.1}),
}


@pytest.mark.slow
@pytest.mark.parametrize("way", ["partial_fit", "fit"])
@pytest.mark.parametrize("name", CHANGES)
def test_what_is_set_counts_at_once_and_in_copies(name, way):
    made_with, change = CHANGES[name]
    live = trained(classifier(warm_start=True, **made_with))
    copies = [make(live) for make in COPIES.values()]
    unchanged = copy.deepcopy(live)
    for net in (live, *copies):
        net.set_params(**copy.deepcopy(change))
    proba = live.predict_proba(X)
    for net in copies:
        np.testing.assert_array_equal(net.predict_proba(X), proba)
    for net in (live, *copies, unchanged):
        for _ in range(2):
            getattr(net, way)(X, Y)
    assert all(same(live, net) for net in copies)
    np.testing.assert_array_equal(copies[0].predict_proba(X), live.predict_proba(X))
    if name != "backend":  # which changes roundings at most
        assert not same(live, unchanged)
    trained_with = live._sync_network().model.config()
    assert (trained_with["dropout"], trained_with["layer_norm"]) == (live.dropout, live.layer_norm)
    assert live._sync_network().model.backend_name == (live.backend or "numba")


@pytest.mark.slow
@pytest.mark.parametrize("change", [{"loss": "huber", "delta": 0.1}, {"loss": "quantile", "quantile": 0.9}])
def test_another_loss_counts_at_once(change):
    live = trained(MLPRegressor(**SMALL))
    copied, unchanged = pickle.loads(pickle.dumps(live)), copy.deepcopy(live)
    for net in (live, copied):
        trained(net.set_params(**change), 2)
    assert same(live, copied) and not same(live, trained(unchanged, 2))
    level = MLPRegressor(**{**SMALL, **change}).set_params(loss="quantile", quantile=0.2)  # and its parameter
    trained(level)
    other = copy.deepcopy(level).set_params(quantile=0.7)
    assert not same(trained(level), trained(other))


def test_activation_is_used_in_prediction_at_once():
    """As scikit-learn does."""
    net = classifier(hidden_layer_sizes=(6,)).fit(X, Y)
    hidden = X @ net.coefs_[0] + net.intercepts_[0]
    for activation, h in (("relu", np.maximum(hidden, 0)), ("tanh", np.tanh(hidden)), ("identity", hidden)):
        z = h @ net.coefs_[1] + net.intercepts_[1]
        ref = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
        net.set_params(activation=activation)
        assert_matches(ref, net.predict_proba(X), 1e-12)
        assert_matches(ref[:1], net.predict_proba(X[:1]), 1e-12)
        assert (net.compiled_predict()(X) == net.classes_[z.argmax(axis=1)]).all()


def test_what_is_set_is_checked_before_it_is_used():
    net = classifier().fit(X, Y)
    ref = net.predict_proba(X)
    for name, value in (("activation", "swish"), ("dropout", 2.0), ("backend", "tpu")):
        before = net.get_params()[name]
        with pytest.raises(InvalidParameterError, match=f"The '{name}' parameter of MLPClassifier must be"):
            net.set_params(**{name: value}).predict(X)
        np.testing.assert_array_equal(net.set_params(**{name: before}).predict_proba(X), ref)


def test_a_rate_that_is_set_is_that_of_the_next_step():
    """Without momentum a step is the rate times the gradient; Adam's averages live on."""
    one = {
        "solver": "sgd",
        "momentum": 0.0,
        "batch_size": 90,
        "alpha": 0.0,
        "shuffle": False,
        "learning_rate_init": 0.1,
    }
    nets = [trained(classifier(**one)) for _ in range(2)]
    before = [array.copy() for array in weights(nets[0])]
    nets[1].set_params(learning_rate_init=0.2)
    steps = [[b - a for a, b in zip(before, weights(trained(net, 1)), strict=True)] for net in nets]
    for once, twice in zip(*steps, strict=True):
        assert_matches(2 * once, twice, 1e-12)
    net = trained(classifier())
    kept = {name: {kind: array.copy() for kind, array in kinds.items()} for name, kinds in
            net._optimizer.optimizer.state.items()}  # fmt: skip
    updates = net._optimizer.optimizer.steps
    assert updates == 9
    trained(net.set_params(learning_rate_init=1e-12), 1)
    assert net._optimizer.optimizer.steps == 12 and net._optimizer.learning_rate == 1e-12
    for name, kinds in net._optimizer.optimizer.state.items():
        factor = np.float64(0.999) ** 3
        assert (kinds["exp_avg_sq"] >= factor * kept[name]["exp_avg_sq"] * (1 - 1e-12)).all()  # it had not been 0


def test_averages_follow_their_parameters_when_dropout_comes_and_goes():
    """Dropouts change the names of the parameters behind them; those that are averaged are the same ones."""
    with_it = trained(classifier(alpha=0.0, shuffle=False))
    without = copy.deepcopy(with_it)
    with_it.set_params(dropout=1e-300)  # nothing is ever dropped
    for net in (with_it, without):
        trained(net)
    assert len(with_it._sync_network().model) == len(without._sync_network().model) + 2
    for ref, comp in zip(weights(without), weights(with_it), strict=True):
        assert_matches(ref, comp, 1e-12)
    with_it.set_params(dropout=0.0)
    for ref, comp in zip(weights(trained(without)), weights(trained(with_it)), strict=True):
        assert_matches(ref, comp, 1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_coefs_of_another_dtype(dtype):
    other = np.float32 if dtype == np.float64 else np.float64
    net = classifier().partial_fit(X.astype(dtype), Y, classes=[0, 1, 2])
    net.coefs_ = [coef.astype(other) for coef in net.coefs_]
    copied = pickle.loads(pickle.dumps(net))
    for one in (net, copied):
        assert one.predict_proba(X.astype(dtype)).dtype == other
        one.partial_fit(X.astype(dtype), Y)
        assert one.coefs_[0].dtype == other
    assert same(net, copied)


def test_the_loss_of_the_fit_says_what_outputs_mean():
    y = np.abs(X[:, 0])
    for fitted, later in (("squared_error", "poisson"), ("poisson", "squared_error")):
        net = MLPRegressor(loss=fitted, **SMALL).fit(X, y)
        ref, compiled = net.predict(X), net.compiled_predict()(X)
        net.set_params(loss=later)
        np.testing.assert_array_equal(net.predict(X), ref)
        np.testing.assert_array_equal(net.compiled_predict()(X), compiled)
        assert_matches(ref, compiled, 1e-12 * np.abs(ref).max())
        before = [array.copy() for array in weights(net)]
        for call in (net.set_params(warm_start=True).fit, net.partial_fit):
            with pytest.raises(ValueError, match="has the output activation '(exp|identity)', its parameters require"):
                call(X, y)
        assert all(np.array_equal(a, b) for a, b in zip(before, weights(net), strict=True))
        anew = net.set_params(warm_start=False).fit(X, y)
        assert same(anew, MLPRegressor(loss=later, **SMALL).fit(X, y))


def test_a_refused_call_leaves_the_fitted_net_as_it_was():
    net = MLPRegressor(**SMALL).fit(X, X[:, 0])
    ref = net.predict(X)
    with pytest.raises(ValueError, match="has hidden layers .* and 1 outputs; expected .* and 2"):
        net.partial_fit(X, X[:, :2])
    assert net.n_outputs_ == 1
    np.testing.assert_array_equal(net.predict(X), ref)


# --------------------------------------------------------------------------------- copies that go on

GOING_ON = {
    "plain": {},
    "in order": {"shuffle": False},
    "dropout": {"dropout": 0.3},
    "dropout alone": {"dropout": 0.3, "shuffle": False},
    "noise": {"augment": [fm.GaussianNoise(0.1), fm.Mixup(0.4)], "shuffle": False},
    "layer_norm": {"layer_norm": True, "dropout": 0.1},
    "adaptive": {"solver": "sgd", "learning_rate": "adaptive", "tol": 10.0, "n_iter_no_change": 1},
    "invscaling": {"solver": "sgd", "learning_rate": "invscaling"},
    "a large seed": {"random_state": 2**31 - 1},
    "a generator": {"random_state": np.random.RandomState(7)},
    "no seed": {"random_state": None},
    "numpy": {"backend": "numpy", "dropout": 0.3},
}


@pytest.mark.slow
@pytest.mark.parametrize("how", COPIES)
@pytest.mark.parametrize("name", GOING_ON)
def test_a_copy_goes_on_as_its_original_does(how, name):
    for begin in (trained, lambda net: net.fit(X, Y)):
        ref = begin(classifier(**copy.deepcopy(GOING_ON[name])))
        comp = COPIES[how](ref)
        trained(ref, 2), trained(comp, 2)
        assert same(ref, comp)
        comp = COPIES[how](COPIES[how](comp))  # and a copy's copy
        trained(ref, 2), trained(comp, 2)
        assert same(ref, comp) and ref.t_ == comp.t_ and ref.loss_curve_ == comp.loss_curve_


def test_a_copy_of_what_was_interrupted():
    """An epoch that was not done is gone on with, by both."""

    class Stop:
        armed = True

        def on_step(self, trainer, step, loss):
            if self.armed and step == 5:
                raise KeyboardInterrupt

    net = trained(classifier(dropout=0.2), 1).set_params(callbacks=[Stop()])
    with pytest.warns(UserWarning, match="Training interrupted by user"):
        net.partial_fit(X, Y)
    net.set_params(callbacks=None)
    copied = pickle.loads(pickle.dumps(net))
    assert same(trained(net), trained(copied))


def test_a_clone_begins_anew():
    net = trained(classifier(dropout=0.3))
    assert not hasattr(clone(net), "coefs_")
    assert same(trained(clone(net)), net)


# -------------------------------------------------------------------- fits after fits of another kind

REGIMES = {
    "adam": {},
    "sgd": {"solver": "sgd"},
    "lbfgs": {"solver": "lbfgs"},
    "early": {"early_stopping": True},
    "early by loss": {"early_stopping": True, "scoring": "loss", "solver": "sgd"},
    "own rows": {"early_stopping": True, "scoring": None},
}


@pytest.mark.slow
@pytest.mark.parametrize("second", REGIMES)
@pytest.mark.parametrize("first", REGIMES)
@pytest.mark.parametrize("kind", [MLPClassifier, MLPRegressor])
def test_a_warm_start_in_another_regime(kind, first, second):
    y = Y if kind is MLPClassifier else X[:, 0]
    blank = {"solver": "adam", "early_stopping": False, "scoring": None}
    net = kind(**{**SMALL, **blank, **REGIMES[first]}, warm_start=True)
    for number, name in enumerate((first, second, first, second)):
        options = {"X_val": X[:20], "y_val": y[:20]} if name == "own rows" else {}
        before = len(getattr(net, "loss_curve_", []))
        net.set_params(**{**blank, **REGIMES[name]}).fit(X, y, **options)
        assert np.isfinite(net.loss_) and net.predict(X).shape == y.shape
        if name == "lbfgs":
            assert not hasattr(net, "loss_curve_") and not hasattr(net, "best_loss_")
            continue
        assert len(net.loss_curve_) == before + net.n_iter_ and net.loss_curve_[-1] == net.loss_
        if net.early_stopping:
            assert net.best_loss_ is None and len(net.validation_scores_) >= net.n_iter_
            assert net.best_validation_score_ >= max(net.validation_scores_[-net.n_iter_ :])
        else:
            assert net.validation_scores_ is net.best_validation_score_ is None and net.best_loss_ <= net.loss_
        if number == 3 and name != "lbfgs" and not net.early_stopping:
            net.partial_fit(X, y)
            assert np.isfinite(net.loss_) and len(net.loss_curve_) == before + SMALL["max_iter"] + 1


def test_partial_fit_after_lbfgs():
    net = classifier(solver="lbfgs").fit(X, Y).set_params(solver="adam")
    copied = copy.deepcopy(net)
    assert same(trained(net), trained(copied)) and len(net.loss_curve_) == 3


def test_a_fit_anew_forgets_the_one_before():
    net = classifier(early_stopping=True).fit(X, Y)
    net.set_params(solver="lbfgs", early_stopping=False).fit(X, Y)
    ref = classifier(solver="lbfgs").fit(X, Y)
    assert same(net, ref) and sorted(vars(net)) == sorted(vars(ref))


def test_a_second_fit_that_gets_worse_keeps_what_there_was():
    """The best of the weights that it began with and its own, by the score on its own held-out rows."""
    for scoring in (None, "loss", "f1_macro"):
        net = classifier(max_iter=30, warm_start=True, early_stopping=True, learning_rate_init=0.02, scoring=scoring)
        net.fit(X, Y, X_val=X[:40], y_val=Y[:40])
        before, best = [array.copy() for array in weights(net)], net.best_validation_score_
        worse = net.set_params(learning_rate_init=5.0, random_state=3)
        worse.fit(X, Y, X_val=X[:40], y_val=Y[:40])
        assert max(net.validation_scores_[-net.n_iter_ :]) < best == pytest.approx(net.best_validation_score_)
        assert all(np.array_equal(a, b) for a, b in zip(before, weights(net), strict=True))
    # other rows to hold out, and another score to begin with
    net.set_params(scoring=None, learning_rate_init=1e-9).fit(X, Y, X_val=X[40:], y_val=Y[40:])
    assert net.best_validation_score_ == net.score(X[40:], Y[40:])


def test_the_best_weights_are_those_of_the_best_score():
    y = X[:, 0] + 0.1 * X[:, 1]
    net = MLPRegressor(**{**SMALL, "max_iter": 25, "learning_rate_init": 0.05}, early_stopping=True)
    net.fit(X, y, X_val=X[:30], y_val=y[:30])
    assert_matches(net.best_validation_score_, r2_score(y[:30], net.predict(X[:30])), 1e-12)


# ------------------------------------------------------------------------------------ saved models


@pytest.mark.parametrize("labels", [["maybe", "no", "yes"], [3, 5, 9], [-1.0, 1.0, 2.0]])
def test_a_saved_model_has_the_labels_and_the_best_weights(labels, tmp_path):
    y = np.array(labels)[Y]
    for target in (y, np.where(Y == 1, y[0], labels[1])):
        path = tmp_path / "model.safetensors"
        net = classifier(callbacks=[fm.SaveModel(path)], early_stopping=True, max_iter=20, learning_rate_init=0.2)
        net.fit(X, target, X_val=X[:30], y_val=target[:30])
        assert net.best_validation_score_ == max(net.validation_scores_)
        saved = fm.load_model(path)
        assert saved.classes == net.classes_.tolist()
        np.testing.assert_array_equal(fm.Predictor(path).predict(X), net.predict(X))
    regressor = MLPRegressor(**SMALL, callbacks=[fm.SaveModel(path)]).fit(X, X[:, 0])
    assert fm.load_model(path).classes is None
    assert_matches(regressor.predict(X), fm.Predictor(path).predict(X), 1e-12)


def test_ctrl_c_gives_the_best_weights_too():
    class Stop:
        def on_evaluation(self, trainer, record):
            if len(trainer.history) == 12:
                raise KeyboardInterrupt

    net = classifier(max_iter=50, early_stopping=True, learning_rate_init=1.0, callbacks=[Stop()])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net.fit(X, Y, X_val=X[:30], y_val=Y[:30])
    assert net.score(X[:30], Y[:30]) == net.best_validation_score_ == max(net.validation_scores_)
