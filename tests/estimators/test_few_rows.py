"""Predictions for a few rows: native calls give what calls with all checks give, and every change takes effect."""

from __future__ import annotations

import contextlib
import threading
import warnings
from unittest import mock

import numpy as np
import pytest

import fastmlp as fm

pytest.importorskip("sklearn")

from fastmlp._kernels.cpu import jit
from fastmlp.engine import native
from fastmlp.engine.few_rows import FewRows
from fastmlp.estimators.base import BaseMLP

NATIVE = native.native is not None and not jit.DISABLED and jit.LIBRARY is not None
rng = np.random.default_rng(5)
X = rng.normal(size=(300, 7))
Y = {"two": rng.integers(0, 2, 300), "three": rng.integers(0, 3, 300), "several": rng.integers(0, 2, (300, 3))}


def fitted(name="three", dtype=np.float64, kind=fm.MLPClassifier, **options):
    options = {"hidden_layer_sizes": (9, 5), "random_state": 0, "max_iter": 2, **options}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of two epochs
        return kind(**options).fit(X.astype(dtype), Y[name])


@contextlib.contextmanager
def native_calls():
    """Count the calls that native code answers."""
    general, made = FewRows.run, []

    def run(self, rows):
        made.append(general(self, rows))
        return made[-1]

    with mock.patch.object(FewRows, "run", run):
        yield made


@contextlib.contextmanager
def by_modules():
    with (
        mock.patch.object(FewRows, "run", lambda *arguments: None),
        mock.patch.object(BaseMLP, "_infer_online", lambda *arguments: None),
    ):
        yield


def outcome(call):
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        try:
            return call().tolist(), [str(one.message) for one in found]
        except ValueError as error:
            return type(error), str(error)


def assert_as_by_modules(model, rows, answered=None):
    """Predictions and errors are those of the model; ``answered``: whether native code answers the second call on."""
    methods = [model.predict] + ([model.predict_proba] if isinstance(model, fm.MLPClassifier) else [])
    for method in methods:
        with by_modules():
            ref = outcome(lambda method=method: method(rows))
        with native_calls() as counted:
            comp = [outcome(lambda method=method: method(rows)) for _ in range(4)]
        assert comp == [ref] * 4
        if answered is not None and NATIVE:
            assert (counted[-1] is not None) == answered


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("rows", [1, 2, 33, 255, 257])
@pytest.mark.parametrize("name", Y)
def test_classes(name, rows, dtype):
    model = fitted(name, dtype, activation="tanh")
    for other in (np.float32, np.float64):
        assert_as_by_modules(model, X[:rows].astype(other), rows < 257)


@pytest.mark.parametrize(
    "options", [{"layer_norm": True}, {"dropout": 0.5}, {"hidden_layer_sizes": ()}, {"alpha": 0.1}]
)
@pytest.mark.parametrize("name", Y)
def test_options_and_regression(name, options):
    assert_as_by_modules(fitted(name, kind=fm.MLPRegressor, **options), X[:1], True)
    if name != "several":
        assert_as_by_modules(fitted(name, kind=fm.MLPRegressor, loss="poisson", **options), X[:3], True)


def test_a_large_model_computes_by_itself():
    assert_as_by_modules(fitted(hidden_layer_sizes=(200, 200)), X[:1], False)


def bad_rows():
    nan, inf = X[:2].copy(), X[:1].copy()
    nan[1, 3], inf[0, 0] = np.nan, np.inf
    return {
        "nan": nan, "inf": inf, "columns": X[:1, 1:], "no rows": X[:0], "one dimension": X[0], "three": X[None],
        "large": X[:1] * 1e300, "list": X[:2].tolist(), "int": X[:2].astype(int), "fortran": np.asfortranarray(X[:3]),
        "strided": X[:6:2, ::-1], "big-endian": X[:2].astype(">f8"), "text": np.array([["a"] * 7]),
    }  # fmt: skip


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", bad_rows())
def test_other_rows_and_errors(name, dtype):
    model = fitted("two", dtype)
    for _ in range(3):
        model.predict(X[:1])
    assert_as_by_modules(model, bad_rows()[name])


def test_feature_names():
    pandas = pytest.importorskip("pandas")
    names = [f"f{i}" for i in range(7)]
    model = fitted()
    frame = pandas.DataFrame(X, columns=names)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(frame, Y["three"])
    for rows in (X[:1], frame[:1], frame[:1][names[::-1]]):
        assert_as_by_modules(model, rows)
    with pytest.warns(UserWarning, match="does not have valid feature names"):
        model.predict(X[:1])


def scale(model):
    model.coefs_[0][...] *= -1.5


def replace(model):
    model.intercepts_[-1] = model.intercepts_[-1] + [1.0, -2, 3]


CHANGES = {
    "weights": scale, "an entry": replace, "activation": lambda m: m.set_params(activation="tanh"),
    "all": lambda m: setattr(m, "coefs_", [2 * coef for coef in m.coefs_]),
    "norm": lambda m: m.set_params(layer_norm=True),
    "partial_fit": lambda m: m.partial_fit(X[:20], Y["three"][:20]), "fit": lambda m: m.fit(X, Y["two"] + Y["three"]),
    "backend": lambda m: m.set_params(backend="numpy"), "dtype": lambda m: m.fit(X.astype("f4"), Y["three"]),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:Maximum iterations")
@pytest.mark.parametrize("name", CHANGES)
def test_a_change_counts_at_once(name):
    ref, comp = fitted(), fitted()
    for _ in range(3):
        for _ in range(3):
            with by_modules():
                expected = ref.predict_proba(X[:1])
            np.testing.assert_array_equal(comp.predict_proba(X[:1]), expected)
        for model in (ref, comp):
            CHANGES[name](model)


def test_calls_of_several_threads():
    model = fitted()
    with by_modules():
        expected = [model.predict_proba(X[i : i + 1]).tolist() for i in range(50)]
    found = {}

    def predict(number):
        found[number] = [model.predict_proba(X[i : i + 1]).tolist() for _ in range(20) for i in range(50)]

    threads = [threading.Thread(target=predict, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(found[number] == expected * 20 for number in range(4))
