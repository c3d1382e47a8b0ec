"""Calls of partial_fit for a few rows, which do without scikit-learn's validation of the usual arrays."""

from __future__ import annotations

import copy

import numpy as np
import pytest

import fastmlp as fm

pytest.importorskip("sklearn")

from fastmlp.estimators.base import BaseMLP

rng = np.random.default_rng(3)
X = rng.normal(size=(20, 5))
TARGETS = {
    "two": (fm.MLPClassifier, rng.integers(0, 2, 20)),
    "three": (fm.MLPClassifier, rng.integers(0, 3, 20) * 7 - 3),
    "bool": (fm.MLPClassifier, rng.integers(0, 2, 20) > 0),
    "unsigned": (fm.MLPClassifier, (rng.integers(0, 3, 20) + 2**53).astype(np.uint64)),
    "text": (fm.MLPClassifier, np.array(["a", "b"])[rng.integers(0, 2, 20)]),
    "float": (fm.MLPClassifier, rng.integers(0, 3, 20).astype(float)),
    "multilabel": (fm.MLPClassifier, rng.integers(0, 2, (20, 3))),
    "column": (fm.MLPRegressor, rng.normal(size=20)),
    "columns": (fm.MLPRegressor, rng.normal(size=(20, 2))),
    "integers": (fm.MLPRegressor, rng.integers(0, 9, 20)),
}


def made(kind, y, dtype):
    classes = np.unique(y) if y.ndim == 1 else np.arange(y.shape[1])
    options = {"classes": classes} if kind is fm.MLPClassifier else {}
    model = kind(hidden_layer_sizes=(6,), random_state=0, learning_rate_init=0.01)
    return model.partial_fit(X.astype(dtype), y, **options)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", TARGETS)
def test_the_bits_are_those_of_validated_rows(name, dtype, monkeypatch):
    kind, y = TARGETS[name]
    comp = made(kind, y, dtype)
    for rows in (20, 3, 1, 7):
        comp.partial_fit(X[:rows].astype(dtype), y[:rows])
    monkeypatch.setattr(BaseMLP, "_are_validated", lambda *arguments: False)
    ref = made(kind, y, dtype)
    for rows in (20, 3, 1, 7):
        ref.partial_fit(X[:rows].astype(dtype), y[:rows])
    for one, other in zip((*ref.coefs_, *ref.intercepts_), (*comp.coefs_, *comp.intercepts_)):
        np.testing.assert_array_equal(other, one)
    assert (comp.loss_curve_, comp.t_, comp.n_iter_) == (ref.loss_curve_, ref.t_, ref.n_iter_)


@pytest.mark.parametrize("name", ["two", "three", "column"])
def test_the_errors_are_those_of_validated_rows(name, monkeypatch):
    kind, y = TARGETS[name]
    comp = made(kind, y, np.float64)
    nan = X.copy()
    nan[3, 2] = np.nan
    bad = [(nan, y), (X[:, 1:], y), (X[:5], y[:4]), (X[:0], y[:0]), (X[0], y), (X, np.full(20, np.nan))]
    if kind is fm.MLPClassifier:
        bad += [(X, y + 1), (X, y - 100), (X, y + 100)]

    def errors():
        for rows in bad:
            with pytest.raises(ValueError) as found:
                comp.partial_fit(*rows)
            yield str(found.value)

    found = [*errors()]
    monkeypatch.setattr(BaseMLP, "_are_validated", lambda *arguments: False)
    assert found == [*errors()]


@pytest.mark.parametrize("change", [0, 1, -1])
def test_large_labels_of_another_integer_type(change, monkeypatch):
    """Labels from 2**53 on are not distinct as floats, to which NumPy converts int64 and uint64 for a comparison."""
    classes = np.array([0, 2]) + 2**53 + 1
    model = fm.MLPClassifier((6,), random_state=0).partial_fit(X, classes[rng.integers(0, 2, 20)], classes=classes)
    y = (classes[rng.integers(0, 2, 20)] + change).astype(np.uint64)

    def outcome(model):
        try:
            return [array.tolist() for array in model.partial_fit(X, y).coefs_]
        except ValueError as error:
            return str(error)

    comp = outcome(copy.deepcopy(model))
    monkeypatch.setattr(BaseMLP, "_are_validated", lambda *arguments: False)
    assert comp == outcome(model)
    assert isinstance(comp, str) == (change != 0)
