"""Rows in sparse matrices, data frames, masked arrays and lists, and errors of invalid ones."""

from __future__ import annotations

import re

import numpy as np
import pytest
from checks import assert_matches, eps

import fastmlp as fm

X = np.random.default_rng(0).normal(size=(50, 3))
X[X < 0.3] = 0
Y = np.arange(50) % 2
FORMATS = [f"{name}_{kind}" for name in "bsr coo csc csr dia dok lil".split() for kind in ("array", "matrix")]


@pytest.fixture(params=["compiled", "modules"])
def predictor(request, monkeypatch):
    """By the kernels compiled ahead of time, and without them."""
    if request.param == "modules":
        monkeypatch.setattr(fm.inference.predictor, "inference_kernels", lambda: None)
    with fm.use_backend("numpy"):
        model = fm.MLP(3, [4], 2, rng=0)
        model.task = "classification"
        return fm.Predictor(model)


@pytest.fixture(scope="module")
def trainer():
    with fm.use_backend("numpy"):
        trainer = fm.Trainer(fm.MLP(3, [4], 2, rng=0), fm.CrossEntropyLoss(), fm.SGD(0.1))
        trainer.fit(X, Y, epochs=1, rng=0)
    return trainer


def assert_same(predictor, ref, comp):
    """To the bit by the compiled kernels; a product of NumPy's may round a row otherwise in another company."""
    bound = 0.0 if predictor.instructions != "numpy" else 16 * eps(np.float32) * (1 + np.abs(ref))
    assert ref.dtype == comp.dtype and ref.shape == comp.shape
    assert_matches(ref, comp, bound)


@pytest.mark.parametrize("name", FORMATS)
def test_sparse_formats(predictor, trainer, name):
    sparse = getattr(pytest.importorskip("scipy.sparse"), name)(X)
    ref = predictor(X)
    np.testing.assert_array_equal(predictor(sparse), ref)
    out = np.zeros_like(ref)
    assert predictor(sparse, out=out) is out and (out == ref).all()
    np.testing.assert_array_equal(predictor.predict(sparse), predictor.predict(X))
    np.testing.assert_array_equal(predictor.predict_proba(sparse), predictor.predict_proba(X))
    np.testing.assert_array_equal(trainer.predict_proba(sparse), trainer.predict_proba(X))


@pytest.mark.parametrize("dtype", ["?", "i1", "u8", "f4", "f8"])
def test_sparse_rows_in_blocks(predictor, dtype, monkeypatch):
    sparse = pytest.importorskip("scipy.sparse")
    x = (3 * X).astype(dtype)
    ref = predictor(x)
    for numbers in (1, 3, 20, 150, 151):
        monkeypatch.setattr(fm.inference.predictor, "_DENSE", numbers)
        assert_same(predictor, ref, predictor(sparse.csr_array(x)))
    assert_same(predictor, ref[:1], predictor(sparse.csr_array(x[:1])))


def test_no_sparse_rows_at_all(predictor, trainer):
    empty = pytest.importorskip("scipy.sparse").csr_matrix((0, 3))
    assert predictor(empty).shape == (0, 2) and predictor(empty).dtype == np.float32
    assert predictor.predict(empty).shape == trainer.predict(empty).shape == (0,)
    assert trainer.predict_proba(empty).shape == (0, 2)


def test_sparse_rows_that_do_not_fit(predictor, trainer):
    sparse = pytest.importorskip("scipy.sparse")
    big, gap = X.copy(), X.copy()
    big[40, 1], gap[40, 1] = 1e300, np.nan
    calls = (predictor, "Predictor: x"), (predictor.predict, "predict: X"), (trainer.predict, "predict: X")
    for x, message in [
        (sparse.csr_array(X[:, :2]), "has shape (50, 2); expected (N, 3)"),
        (sparse.coo_array(X[0]), "has shape (3,); expected (N, 3)"),
        (sparse.csr_array(X.astype(complex)), "has dtype complex128; expected bools, integers or floats"),
        (sparse.csr_array(big), ": a stored number is 1e+300 at index "),
    ]:
        for call, what in calls:
            with pytest.raises(ValueError, match=re.escape(f"{what}{' ' * (message[0] != ':')}{message}")):
                call(x)
    assert np.isnan(predictor(sparse.csr_array(gap))[40]).all()
    with pytest.raises(ValueError, match="predict: X: a stored number is nan"):
        predictor.predict(sparse.csr_array(gap))


def test_what_takes_no_sparse_matrix_says_so(trainer):
    sparse = pytest.importorskip("scipy.sparse")
    message = "is a sparse csr_matrix; expected a dense array, as toarray() gives it."
    for what, call in [
        ("MLP: x", trainer.model.infer), ("Normalize.fit: X", fm.Normalize.fit),
        ("CrossEntropyLoss: y", lambda matrix: trainer.fit(X, matrix)),
    ]:  # fmt: skip
        with pytest.raises(ValueError, match=re.escape(f"{what} {message}")):
            call(sparse.csr_matrix(X))


def frames():
    """Data frames of X, or of numbers of several dtypes: (name, the frame, the array that it stands for)."""
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(X, columns=list("abc"))
    whole = np.round(10 * X)
    mixed = np.column_stack([Y, X[:, 1], X[:, 2] > 0])
    found = [
        ("floats", frame, X),
        ("float32", frame.astype("float32"), X.astype(np.float32)),
        ("nullable floats", frame.astype("Float64"), X),
        ("nullable integers", pandas.DataFrame(whole, columns=list("abc")).astype("Int64"), whole),
        ("nullable and not", frame.assign(a=pandas.array(Y, "Int8"), c=pandas.array(X[:, 2] > 0, "boolean")), mixed),
        ("several", frame.assign(a=Y, c=X[:, 2] > 0), mixed),
        ("sparse columns", frame.astype(pandas.SparseDtype(float, 0.0)), X),
        ("two of one name", frame.rename(columns={"b": "a"}), X),
    ]
    try:
        import polars
    except ImportError:
        return found
    several = polars.DataFrame({"a": Y, "b": X[:, 1], "c": X[:, 2] > 0})
    return [*found, ("polars", polars.DataFrame(X), X), ("polars, several", several, mixed)]


def test_frames(predictor, trainer):
    for name, frame, array in frames():
        np.testing.assert_array_equal(predictor(frame), predictor(array), err_msg=name)
        np.testing.assert_array_equal(predictor.predict(frame), predictor.predict(array), err_msg=name)
        np.testing.assert_array_equal(trainer.predict_proba(frame), trainer.predict_proba(array), err_msg=name)


def test_frames_with_columns_that_are_no_numbers(predictor, trainer):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(X, columns=list("abc"))
    calls = (predictor, "Predictor: x"), (trainer.predict, "predict: X"), (trainer.model.infer, "MLP: x")
    for column, values in [
        ("b", ["x"] * 50), ("c", pandas.Categorical(["x", "y"] * 25)), ("a", pandas.Timestamp("2020-01-01")),
        ("b", [1j] * 50),
    ]:  # fmt: skip
        other = frame.assign(**{column: values})
        kinds = r"(object|str|datetime64\[.*\]|complex128)"
        for call, what in calls:
            with pytest.raises(
                ValueError, match=f"{what} has (column '{column}' of )?dtype {kinds}; expected bools, int"
            ):
                call(other)
    twice = frame.astype("Float64").rename(columns={"c": "a"})
    with pytest.raises(ValueError, match="Predictor: x has two columns 'a'; expected distinct names"):
        predictor(twice)
    missing = frame.astype("Float64").mask(frame == 0)
    with pytest.raises(ValueError, match="predict: X is nan at row 0, column 0; expected finite numbers"):
        predictor.predict(missing)


def test_masked_arrays(predictor, trainer):
    whole = np.ma.masked_array(X)
    np.testing.assert_array_equal(predictor(whole), predictor(X))
    assert_same(predictor, predictor(X[0]), predictor(whole[0]))
    masked, row = np.ma.masked_array(X, X == 0), np.ma.masked_array(X[0], [False, True, False])
    for call, what, values in [
        (predictor, "Predictor: x", masked), (predictor, "Predictor: x", row),
        (predictor.predict, "predict: X", masked), (trainer.predict, "predict: X", masked),
    ]:  # fmt: skip
        with pytest.raises(ValueError, match=f"{what} is a masked array with masked entries; expected no masked entry"):
            call(values)


def test_lists(predictor):
    ref = predictor(X)
    for rows in (X.tolist(), tuple(X), [tuple(row) for row in X]):
        np.testing.assert_array_equal(predictor(rows), ref)
    assert_same(predictor, ref[0], predictor(X[0].tolist()))
    for values, message in [
        ([[1, 2, 3], [1, 2]], "is not a rectangular array of numbers"), ([["1", "2", "3"]], "has dtype <U1"),
        ([[1, None, 2]], "has dtype object"), ([], r"has shape \(1, 0\)"), ([[]], r"has shape \(1, 0\)"),
        ([[1, 2]], r"has shape \(1, 2\)"), (3.0, r"has shape \(\)"), (None, "has dtype object"),
        ({}, "has dtype object"), (iter(X), "has dtype object"),
    ]:  # fmt: skip
        with pytest.raises(ValueError, match=f"Predictor: x {message}"):
            predictor(values)
