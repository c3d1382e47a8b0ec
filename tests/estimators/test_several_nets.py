"""Estimators of several nets, whose predictions are averaged."""

from __future__ import annotations

import copy
import os
import pickle
import signal
import threading

import numpy as np
import pytest
from checks import assert_matches
from scipy import sparse
from sklearn.base import clone
from sklearn.datasets import make_classification
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV
from sklearn.utils.estimator_checks import parametrize_with_checks

import fastmlp as fm
from fastmlp import MLPClassifier, MLPRegressor
from fastmlp.estimators import stochastic

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

X, Y = make_classification(90, 8, n_informative=5, n_classes=3, random_state=0)
LABELS = np.array(["a", "b", "c"])[Y]
SEVERAL = np.stack([Y == 0, Y == 1, X[:, 0] > 0], axis=1).astype(int)
WEIGHT = np.random.default_rng(0).integers(0, 3, 90).astype(float)
TARGETS = {
    "classes": (MLPClassifier, LABELS),
    "two classes": (MLPClassifier, Y > 0),
    "one class": (MLPClassifier, np.zeros(90, int)),
    "labels": (MLPClassifier, SEVERAL),
    "numbers": (MLPRegressor, X[:, 0] ** 2),
    "several numbers": (MLPRegressor, X[:, :2] ** 2),
}
EPS = 2.0**-50


def small(kind=MLPClassifier, **options):
    return kind(**{"hidden_layer_sizes": (6,), "random_state": 0, "max_iter": 4, "n_nets": 3, **options})


def alone(net, **options):
    """Unfitted estimators of one net with the same random numbers as the nets of a fitted one."""
    seeds = [net.random_state, *(other.random_state for other in net.other_nets_)]
    return [clone(net).set_params(n_nets=1, random_state=seed, **options) for seed in seeds]


def weights(net):
    return b"".join(np.ascontiguousarray(array).tobytes() for array in (*net.coefs_, *net.intercepts_))


def require_same_nets(refs, net):
    for ref, comp in zip(refs, [net, *net.other_nets_], strict=True):
        assert weights(comp) == weights(ref)
        assert (comp.n_iter_, comp.t_, comp.loss_) == (ref.n_iter_, ref.t_, ref.loss_)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"solver": "sgd", "learning_rate": "adaptive"},
        {"solver": "lbfgs"},
        {"early_stopping": True, "max_iter": 30, "n_iter_no_change": 2, "learning_rate_init": 0.1},
        {"early_stopping": True, "scoring": "loss"},
    ],
)
def test_the_bits_of_single_nets_and_their_mean(target, options):
    kind, y = TARGETS[target]
    if target == "one class" and options.get("early_stopping"):
        options = {**options, "early_stopping": False, "scoring": None}
    weight = None if target == "labels" else WEIGHT
    net = small(kind, **options).fit(X, y, weight)
    refs = [one.fit(X, y, weight) for one in alone(net)]
    require_same_nets(refs, net)
    assert len({weights(ref) for ref in refs}) == 3
    if kind is MLPRegressor:
        assert_matches(np.mean([ref.predict(X) for ref in refs], axis=0), net.predict(X), 1e-12)
    else:
        mean = np.mean([ref.predict_proba(X) for ref in refs], axis=0)
        assert_matches(mean, net.predict_proba(X), EPS)
        assert_matches(np.log(mean), net.predict_log_proba(X), 1e-12)
        if target == "labels":
            np.testing.assert_array_equal(net.predict(X), mean > 0.5)
        else:
            best = np.minimum(mean.argmax(axis=1), len(net.classes_) - 1)
            np.testing.assert_array_equal(net.predict(X), net.classes_[best])
    compiled = net.compiled_predict()
    if kind is MLPRegressor:
        assert_matches(net.predict(X), compiled(X), 1e-9)
    else:
        np.testing.assert_array_equal(net.predict(X), compiled(X))
    assert net.score(X, y) == net.score(X, y)


@pytest.mark.parametrize("loss", ["poisson", "quantile"])
def test_losses_of_the_regressor(loss):
    net = small(MLPRegressor, loss=loss).fit(X, X[:, 0] ** 2)
    refs = [one.fit(X, X[:, 0] ** 2) for one in alone(net)]
    assert_matches(np.mean([ref.predict(X) for ref in refs], axis=0), net.predict(X), 1e-12)


def test_random_states():
    first = small().fit(X, Y)
    assert weights(small(n_nets=1).fit(X, Y)) == weights(first)
    assert [net.random_state for net in small(n_nets=5).fit(X, Y).other_nets_[:2]] == [
        net.random_state for net in first.other_nets_
    ]
    one, three = np.random.RandomState(3), np.random.RandomState(3)
    ref, comp = small(n_nets=1, random_state=one).fit(X, Y), small(random_state=three).fit(X, Y)
    assert weights(ref) == weights(comp) and one.randint(1 << 30) == three.randint(1 << 30)
    small(random_state=None).fit(X, Y)


@pytest.mark.parametrize("threads", [1, 4])
def test_threads_change_nothing(threads):
    assert_matches(small().fit(X, Y).predict_proba(X), small(threads=threads).fit(X, Y).predict_proba(X))


@pytest.mark.parametrize("kind", ["classes", "numbers"])
def test_kinds_of_rows(kind):
    make, y = TARGETS[kind]
    for rows in (sparse.csc_array(X), X.astype(np.float32), np.abs(X * 20).astype(np.uint8)):
        net = small(make).fit(rows, y)
        require_same_nets([one.fit(rows, y) for one in alone(net)], net)
        assert len(net.predict(rows)) == len(net.predict(rows[:1])) * 90
        assert_matches(net.predict(rows[:3]) == net.predict(rows)[:3], np.ones(3))


def test_frames():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(X, columns=list("abcdefgh"))
    net = small(early_stopping=True, scoring="accuracy").fit(frame, LABELS)
    assert_matches(net.predict_proba(frame), small(early_stopping=True).fit(X, LABELS).predict_proba(X))


@pytest.mark.parametrize("kind", ["classes", "labels", "numbers"])
def test_partial_fit_is_a_step_of_each_net(kind):
    make, y = TARGETS[kind]
    options = {"classes": range(3) if kind == "labels" else np.unique(y)} if make is MLPClassifier else {}
    net = small(make, batch_size=10)
    for start in range(0, 90, 30):
        net.partial_fit(X[start : start + 30], y[start : start + 30], **options)
    refs = alone(net)
    for ref in refs:
        for start in range(0, 90, 30):
            ref.partial_fit(X[start : start + 30], y[start : start + 30], **options)
    require_same_nets(refs, net)


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_training_goes_on_in_copies_with_new_parameters(method):
    net = small(warm_start=True).fit(X, LABELS)
    twins = [pickle.loads(pickle.dumps(net)), copy.deepcopy(net)]
    refs = [one.fit(X, LABELS) for one in alone(net)]
    for one in (net, *twins, *refs):
        one.set_params(learning_rate_init=0.02, alpha=0.1)
        getattr(one, method)(X, LABELS)
    for one in (net, *twins):
        require_same_nets(refs, one)
    net.set_params(activation="tanh")
    refs = [ref.set_params(activation="tanh").predict_proba(X) for ref in refs]
    assert_matches(np.mean(refs, axis=0), net.predict_proba(X), EPS)


def test_another_number_of_nets():
    net = small(warm_start=True).fit(X, LABELS).set_params(n_nets=2)
    before = net.predict_proba(X)
    for call in (net.fit, net.partial_fit):
        with pytest.raises(ValueError, match="has n_nets=3, its parameters require 2; expected the same to continue"):
            call(X, LABELS)
    assert_matches(before, net.predict_proba(X))
    assert len(net.set_params(warm_start=False).fit(X, LABELS).other_nets_) == 1
    assert not hasattr(net.set_params(n_nets=1).fit(X, LABELS), "other_nets_")
    net.set_params(n_nets=2)
    with pytest.raises(ValueError, match="has n_nets=1"):
        net.partial_fit(X, LABELS)


def test_grid_search():
    search = GridSearchCV(small(), {"n_nets": [1, 2]}, cv=2, n_jobs=1, error_score="raise").fit(X, LABELS)
    assert search.best_params_["n_nets"] in (1, 2) and clone(search.best_estimator_).n_nets in (1, 2)


def test_a_scorer_sees_one_net():
    seen = []

    def score(estimator, rows, targets):
        seen.append((hasattr(estimator, "other_nets_"), weights(estimator)))
        return estimator.score(rows, targets)

    net = small(early_stopping=True, scoring=score, threads=1).fit(X, LABELS)
    require_same_nets([one.fit(X, LABELS) for one in alone(net)], net)
    assert not any(several for several, _ in seen) and len({bits for _, bits in seen}) >= 12


@pytest.mark.filterwarnings("error")
def test_warnings_count_the_nets():
    with pytest.warns(ConvergenceWarning, match="hasn't converged yet for 3 of 3 nets") as found:
        small().fit(X, LABELS)
    assert len(found) == 1


def test_lines_of_verbose(capsys):
    small(verbose=True, n_nets=2).fit(X, LABELS)
    lines = capsys.readouterr().out.splitlines()
    starts = [f"Net {net}: Iteration {number}, loss = " for net in range(2) for number in range(1, 5)]
    assert sorted(line[: len(starts[0])] for line in lines) == starts
    small(verbose=True, n_nets=1).fit(X, LABELS)
    assert capsys.readouterr().out.startswith("Iteration 1, loss")


def test_divergence():
    huge = X * 1e200
    with pytest.raises(ValueError, match="non-finite parameter weights"):
        small(solver="sgd", learning_rate_init=1e10).fit(huge, LABELS)
    with pytest.warns(ConvergenceWarning, match="diverged"):
        small(solver="sgd", learning_rate_init=1e10, early_stopping=True, max_iter=2).fit(huge, LABELS)


@pytest.mark.usefixtures("interruptible")
@pytest.mark.filterwarnings("ignore:. net")
@pytest.mark.parametrize("threads", [1, 2])
def test_ctrl_c(threads, monkeypatch):
    on_evaluation, begun = stochastic.FitMonitor.on_evaluation, threading.Event()

    def press(self, trainer, record):
        on_evaluation(self, trainer, record)
        if self.name == "Net 1: ":
            begun.set()
        if self.name == "Net 0: " and self.estimator.n_iter_ == 3:
            assert threads == 1 or begun.wait(60)
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(stochastic.FitMonitor, "on_evaluation", press)
    net = small(max_iter=10**6, tol=0, n_iter_no_change=np.inf, threads=threads)
    with pytest.warns(UserWarning, match="Training interrupted by user"):
        net.fit(X, LABELS)
    assert net.n_iter_ >= 3 and all(other.n_iter_ for other in net.other_nets_)
    assert len(net.other_nets_) == threads - 1 and net.predict(X).shape == (90,)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"callbacks": [fm.EarlyStopping()]}, "callbacks is for a single net, got n_nets=3"),
        ({"progress_bar": True}, "progress_bar is for a single net, got n_nets=3"),
        ({"n_nets": 0}, "n_nets"),
        ({"n_nets": 2.5}, "n_nets"),
    ],
)
def test_wrong_parameters(options, message):
    with pytest.raises(ValueError, match=message):
        small(**options).fit(X, LABELS)


@pytest.mark.parametrize("target", ["classes", "two classes", "labels", "numbers"])
def test_onnx(target):
    skl2onnx, runtime = pytest.importorskip("skl2onnx"), pytest.importorskip("onnxruntime")
    fm.register_skl2onnx()
    kind, y = TARGETS[target]
    net = small(kind).fit(X, y)
    rows = X.astype(np.float32)
    options = {id(net): {"zipmap": False}} if kind is MLPClassifier else None
    graph = skl2onnx.to_onnx(net, rows[:1], options=options)
    found = runtime.InferenceSession(graph.SerializeToString()).run(None, {"X": rows})
    ref = net.predict_proba(X) if kind is MLPClassifier else net.predict(X)[:, None]
    assert_matches(ref, found[-1], 1e-4)
    if kind is MLPClassifier:
        np.testing.assert_array_equal(net.predict(X), found[0])


@pytest.mark.filterwarnings("default")
@parametrize_with_checks([MLPClassifier(max_iter=50, n_nets=2), MLPRegressor(max_iter=50, n_nets=2)])
def test_estimator_checks(estimator, check):
    check(estimator)
