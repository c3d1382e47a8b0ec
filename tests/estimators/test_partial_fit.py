"""Calls of partial_fit for a few rows: prepared steps give what calls with all checks give."""

from __future__ import annotations

import contextlib
import copy
import pickle
import warnings
from unittest import mock

import numpy as np
import pytest

import fastmlp as fm

pytest.importorskip("sklearn")

from fastmlp._kernels.cpu.jit import DISABLED
from fastmlp.engine import native
from fastmlp.estimators.base import BaseMLP
from fastmlp.estimators.solver import FitMonitor
from fastmlp.training import row_order

rng = np.random.default_rng(3)
ROWS = 40
X = rng.normal(size=(ROWS, 5))
TARGETS = {
    "two": (fm.MLPClassifier, rng.integers(0, 2, ROWS)),
    "three": (fm.MLPClassifier, rng.integers(0, 3, ROWS) * 7 - 3),
    "bool": (fm.MLPClassifier, rng.integers(0, 2, ROWS) > 0),
    "unsigned": (fm.MLPClassifier, (rng.integers(0, 3, ROWS) + 2**53).astype(np.uint64)),
    "text": (fm.MLPClassifier, np.array(["a", "bcd"])[rng.integers(0, 2, ROWS)]),
    "multilabel": (fm.MLPClassifier, rng.integers(0, 2, (ROWS, 3))),
    "column": (fm.MLPRegressor, rng.normal(size=ROWS)),
    "columns": (fm.MLPRegressor, rng.normal(size=(ROWS, 2))),
    "integers": (fm.MLPRegressor, rng.integers(0, 9, ROWS)),
}
# Those whose calls have all checks.
CHECKED = {
    "float": (fm.MLPClassifier, rng.integers(0, 3, ROWS).astype(float)),
    "object": (fm.MLPClassifier, np.array(["a", "bcd"], object)[rng.integers(0, 2, ROWS)]),
    "one class": (fm.MLPClassifier, np.zeros(ROWS, int)),
}
OPTIONS = {
    "sgd": {"solver": "sgd"}, "sgd without momentum": {"solver": "sgd", "momentum": 0.0},
    "batches": {"batch_size": 7}, "no shuffle": {"shuffle": False, "batch_size": 6}, "alpha": {"alpha": 0.3},
    "dropout": {"dropout": 0.4, "activation": "tanh"}, "layer norm": {"layer_norm": True, "dropout": 0.2},
    "list": {"hidden_layer_sizes": [6, 4]}, "patience": {"tol": 1e9, "n_iter_no_change": 2},
    "invscaling": {"solver": "sgd", "learning_rate": "invscaling"},
}  # fmt: skip
PREPARED = native.native is not None and not DISABLED
needs_native = pytest.mark.skipif(not PREPARED, reason="no C compiler at installation, or jitting is disabled")


@contextlib.contextmanager
def prepared_calls():
    """Count the calls that prepared steps made."""
    made = []

    def call(self, *arguments):
        made.append(general(self, *arguments))
        return made[-1]

    general = BaseMLP._continue
    with mock.patch.object(BaseMLP, "_continue", call):
        yield made


@contextlib.contextmanager
def all_checks():
    """Make each call with all checks."""
    with (
        mock.patch.object(BaseMLP, "_continue", lambda *arguments: False),
        mock.patch.object(BaseMLP, "_infer_online", lambda *arguments: None),
        mock.patch.object(BaseMLP, "_are_validated", lambda *arguments: False),
    ):
        yield


def made(kind, y, dtype=np.float64, **options):
    model = kind(**{"hidden_layer_sizes": (6,), "random_state": 0, "learning_rate_init": 0.01, **options})
    classes = {"classes": np.unique(y) if y.ndim == 1 else np.arange(y.shape[1])} if kind is fm.MLPClassifier else {}
    return model.partial_fit(X.astype(dtype), y, **classes)


def state_of(model):
    arrays = [array.tolist() for array in (*model.coefs_, *model.intercepts_)]
    counts = model.loss_, model.n_iter_, model.t_, model.best_loss_, model._no_improvement_count
    return arrays, counts, list(model.loss_curve_)


def assert_as_with_checks(make, *calls, prepared=None):
    """Each call leaves the same state, or raises the same error, with the same warnings."""

    def outcomes():
        model = make()
        for call in calls:
            error = None
            with warnings.catch_warnings(record=True) as found:
                warnings.simplefilter("always")
                try:
                    call(model)
                except Exception as raised:
                    error = type(raised), str(raised)
            yield error, [(one.category, str(one.message), one.filename) for one in found], state_of(model)

    with prepared_calls() as counted:
        comp = [*outcomes()]
    with all_checks():
        ref = [*outcomes()]
    for number, (expected, found) in enumerate(zip(ref, comp, strict=True)):
        assert found == expected, f"call {number}"
    if prepared is not None and PREPARED:
        assert counted.count(True) == prepared


def part(y, rows, dtype=np.float64, **options):
    return lambda model: model.partial_fit(X[:rows].astype(dtype), y[:rows], **options)


SIZES = (20, 20, 3, 1, 7, 40, 20)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", [*TARGETS, *CHECKED])
def test_targets(name, dtype):
    kind, y = (TARGETS | CHECKED)[name]
    prepared = 0 if name in CHECKED else len(SIZES) - 2  # not the first one, nor that of 40 rows after fewer
    calls = [part(y, rows, dtype) for rows in SIZES]
    assert_as_with_checks(lambda: made(kind, y, dtype), *calls, prepared=prepared)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("target", ["three", "columns"])
def test_options(target, name, dtype):
    kind, y = TARGETS[target]
    batch = OPTIONS[name].get("batch_size", 0)
    sizes = [rows for rows in SIZES if rows >= batch]
    calls = [part(y, rows, dtype) for rows in (*sizes, 20)]
    assert_as_with_checks(lambda: made(kind, y, dtype, **OPTIONS[name]), *calls)


@needs_native
@pytest.mark.parametrize("name", [name for name in OPTIONS if name != "invscaling"])
def test_options_of_prepared_calls(name):
    model = made(*TARGETS["two"], **OPTIONS[name])
    with prepared_calls() as counted:
        for _ in range(3):
            model.partial_fit(X[:20], TARGETS["two"][1][:20])
    assert counted == [True, True]


@pytest.mark.parametrize("loss", ["squared_error", "poisson", "absolute_error", "huber", "log_cosh", "quantile"])
@pytest.mark.parametrize("name", ["column", "columns", "integers"])
def test_losses_of_regression(loss, name):
    kind, y = TARGETS[name]
    calls = [part(abs(y), rows) for rows in SIZES]
    assert_as_with_checks(lambda: made(kind, abs(y), loss=loss, batch_size=5), *[part(abs(y), 20)] * 4)
    assert_as_with_checks(lambda: made(kind, abs(y), loss=loss), *calls, prepared=len(SIZES) - 2)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("class_weight", [None, {0: 2.0, 1: 0.5}, {1: 3}, {0: 0.0}])
def test_weights(class_weight, dtype):
    kind, y = TARGETS["two"]
    weight = np.random.default_rng(1).uniform(0.1, 2, 20)
    some = np.where(np.arange(20) < 5, 0, weight)
    weights = [weight, weight.astype(dtype), some, 0 * weight, -weight, weight[:4], weight.tolist(), weight * np.nan]
    calls = [part(y, 20, sample_weight=one) for one in (None, None, *weights, None, weight)]
    assert_as_with_checks(lambda: made(kind, y, class_weight=class_weight), *calls)
    prepared = 0 if class_weight == {0: 0.0} else 3
    calls = [part(y, 20, sample_weight=weight)] * 4
    assert_as_with_checks(lambda: made(kind, y, class_weight=class_weight), *calls, prepared=prepared)


@pytest.mark.parametrize("kind", ["dict", "list"])
def test_class_weights_of_other_targets(kind):
    for name, weight in (("three", {-3: 2.0, 4: 0.5}), ("multilabel", [{0: 1, 1: 2}] * 3), ("text", {"a": 3})):
        if (kind == "list") == (name == "multilabel"):
            calls = [part(TARGETS[name][1], 20)] * 3
            assert_as_with_checks(lambda n=name, w=weight: made(*TARGETS[n], class_weight=w), *calls)


def rows_of(kind, y):
    """Rows and targets that are refused, or that need a conversion."""
    x, nan, inf = X[:20], X[:20].copy(), X[:20].copy()
    nan[3, 2], inf[0, 0] = np.nan, -np.inf
    wide = np.zeros((20, 10))
    wide[:, ::2] = x
    found = [
        (nan, y), (inf, y), (x[:, 1:], y), (x, y[:5]), (x[:0], y[:0]), (x[0], y[:5]), (x[0], y),
        (x.tolist(), y.tolist()),
        (np.asfortranarray(x), y), (wide[:, ::2], y), (X[:40:2], y), (x.astype(int), y), (x.astype(">f8"), y),
        (x.astype("f4"), y), (x * 1e300, y), (x, None), (x, y[:, None]), (x, np.stack([y] * 3, -1)),
    ]  # fmt: skip
    if kind is fm.MLPClassifier:
        unknown = np.array(["zz"] * 20) if y.dtype.kind == "U" else np.full(20, 99)
        found += [(x, unknown), (x, np.full(y.shape, np.nan)), (x, np.full(y.shape, -5)), (x, y.astype(object))]
    else:
        found += [(x, np.full(y.shape, np.nan)), (x, np.full(y.shape, -3.5)), (x, y.astype("f4")), (x, y.astype(str))]
    return found


@pytest.mark.parametrize("name", ["two", "three", "text", "multilabel", "column", "columns"])
def test_other_rows_and_errors(name):
    kind, y = TARGETS[name]
    calls = [part(y, 20), part(y, 20)]
    for one in rows_of(kind, y[:20]):
        calls += [lambda model, one=one: model.partial_fit(*one), part(y, 20), part(y, 20)]
    calls += [part(y, 20, classes=[5, 6]), part(y, 20, classes=np.unique(y)), lambda model: model.partial_fit(X[:20])]
    assert_as_with_checks(lambda: made(kind, y), *calls)


def change(**parameters):
    return lambda model: model.set_params(**parameters)


def scale_first(model):
    model.coefs_[0][...] *= 1.1


def replace_last(model):
    model.intercepts_[-1] = model.intercepts_[-1] * 0.5


def replace_all(model):
    model.coefs_ = [coef * 0.9 for coef in model.coefs_]


CHANGES = {
    "weights": scale_first, "an entry": replace_last, "all weights": replace_all,
    "rate": change(learning_rate_init=0.02), "alpha": change(alpha=0.5), "seed": change(random_state=9),
    "order": change(shuffle=False), "batches": change(batch_size=4), "large batches": change(batch_size=500),
    "activation": change(activation="tanh"), "dropout": change(dropout=0.3), "solver": change(solver="sgd"),
    "loss": lambda model: hasattr(model, "loss") and model.set_params(loss="huber"),
    "threads": change(threads=1), "layers": change(hidden_layer_sizes=(7,)), "norm": change(layer_norm=True),
    "wrong": change(alpha=-1.0), "early stopping": change(early_stopping=True), "verbose": change(verbose=True),
    "fit": lambda model: model.set_params(max_iter=2).fit(X, model_targets[type(model)]),
    "attribute": lambda model: setattr(model, "note", 1), "predict": lambda model: model.predict(X),
    "one row": lambda model: model.predict(X[:1]), "callback": change(callbacks=lambda trainer, record: None),
}  # fmt: skip
model_targets = {kind: TARGETS[name][1] for name, kind in (("three", fm.MLPClassifier), ("columns", fm.MLPRegressor))}


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("kind", model_targets)
def test_a_change_between_calls_counts(kind, name):
    y = model_targets[kind]
    calls = [part(y, 20)] * 3 + [CHANGES[name]] + [part(y, 20)] * 3
    assert_as_with_checks(lambda: made(kind, y), *calls, CHANGES[name], part(y, 5))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_weights_that_are_not_finite(dtype):
    """The loss of the step is finite, so that the weights of before have to be restored."""
    kind, y = TARGETS["columns"]
    rate = 1e38 if dtype == np.float32 else 1e308
    calls = [part(y, 20, dtype)] * 3 + [change(learning_rate_init=rate, solver="sgd")] + [part(y, 20, dtype)] * 3
    assert_as_with_checks(lambda: made(kind, 1e3 * y, dtype), *calls, change(learning_rate_init=0.01), *calls[:3])


@pytest.mark.parametrize("wrong", ["rows", "weights"])
def test_a_failing_call_keeps_changed_weights(wrong):
    kind, y = TARGETS["columns"]

    def fill(model):
        model.coefs_[0][...] = 0.5 if wrong == "rows" else 1e308

    calls = [part(y, 20)] * 3 + [fill, lambda model: model.partial_fit(np.full((20, 5), np.nan), y[:20])]
    more = [scale_first, part(1e200 * y, 20), part(y, 20), part(y, 20)]
    assert_as_with_checks(lambda: made(kind, y), *calls, part(y, 20), *more)


@needs_native
def test_views_show_each_step_and_predictions_follow_it():
    kind, y = TARGETS["three"]
    comp, ref = made(kind, y), made(kind, y)
    held = comp.coefs_[0]
    for _ in range(4):
        comp.partial_fit(X[:20], y[:20])
        with all_checks():
            ref.partial_fit(X[:20], y[:20])
            expected = [*map(ref.predict_proba, (X[:1], X[:20], X))]
        assert np.shares_memory(comp.coefs_[0], held)
        np.testing.assert_array_equal(held, ref.coefs_[0])
        for one, rows in zip(expected, (X[:1], X[:20], X), strict=True):
            np.testing.assert_array_equal(comp.predict_proba(rows), one)


@needs_native
def test_copies_go_on():
    kind, y = TARGETS["two"]
    model = made(kind, y, layer_norm=True)
    for _ in range(3):
        model.partial_fit(X[:20], y[:20])
    twins = [copy.deepcopy(model), pickle.loads(pickle.dumps(model))]
    for twin in (model, *twins):
        with prepared_calls() as counted:
            for _ in range(3):
                twin.partial_fit(X[:20], y[:20])
        assert counted.count(True) == (3 if twin is model else 2)
        assert state_of(twin) == state_of(model)


@needs_native
def test_an_interruption_leaves_no_part_of_an_epoch():
    kind, y = TARGETS["two"]
    model = made(kind, y)
    for _ in range(3):
        model.partial_fit(X[:20], y[:20])
    before = state_of(model)
    twin = copy.deepcopy(model)
    with mock.patch.object(FitMonitor, "end_epoch", side_effect=KeyboardInterrupt):
        with pytest.warns(UserWarning, match="interrupted") as found:
            model.partial_fit(X[:20], y[:20])
    assert found[0].filename == __file__
    assert state_of(model) == before
    for one in (model, twin):
        one.partial_fit(X[:20], y[:20])
    assert state_of(model) == state_of(twin)


@pytest.mark.parametrize("change", [0, 1, -1])
def test_large_labels_of_another_integer_type(change):
    """Labels from 2**53 on are not distinct as floats, to which NumPy converts int64 and uint64 for a comparison."""
    classes = np.array([0, 2]) + 2**53 + 1
    known = classes[np.random.default_rng(0).integers(0, 2, ROWS)]
    y = (known + change).astype(np.uint64)
    calls = [lambda model: model.partial_fit(X, known)] * 2 + [lambda model: model.partial_fit(X, y)] * 2
    assert_as_with_checks(lambda: made(fm.MLPClassifier, known), *calls)


def test_windows_in_further_calls(monkeypatch):
    """A further call on prepared steps would shuffle fully."""
    monkeypatch.setattr(row_order, "BLOCK_NUMBERS", 4)
    X = np.random.default_rng(0).normal(size=(150, 4)).astype(np.float32)
    y = (X[:, 0] > 0).astype(int)
    nets = [
        fm.MLPClassifier((5,), shuffle=shuffle, callbacks=callbacks, random_state=0, batch_size=30)
        for shuffle, callbacks in (("windows", fm.Callback()), ("windows", None), ("full", None))
    ]
    for net in nets:
        for _ in range(4):
            net.partial_fit(X, y, classes=[0, 1])
    ref, comp, full = (net.coefs_[0].tobytes() for net in nets)
    assert ref == comp != full
