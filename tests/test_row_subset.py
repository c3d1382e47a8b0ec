"""Fits on some rows of an array: the bits of a fit on a copy of these rows."""

from __future__ import annotations

import numpy as np
import pytest

import fastmlp as fm
from fastmlp.training import row_order
from fastmlp.training.batches import RowSubset, check_rows

X = np.random.default_rng(0).normal(size=(50, 6)).astype(np.float32)
Y = (X[:, 0] > 0).astype(int) + (X[:, 1] > 1)
WEIGHT = np.random.default_rng(1).integers(0, 3, 50).astype(float)
INDEX = np.random.default_rng(2).permutation(50)[:37]


def fit(rows, y, **options):
    made = fm.Trainer(fm.MLP(6, [5], 3, dropout=0.1, rng=0), fm.CrossEntropyLoss(), fm.Adam(0.01))
    made.fit(rows, y, **{"batch_size": 8, "epochs": 3, "rng": 0, **options})
    return b"".join(array.tobytes() for array in made.model.state_dict().values())


@pytest.mark.parametrize("backend", ["numpy", "numba"])
@pytest.mark.parametrize("options", [{}, {"shuffle": False}, {"drop_last": True}, {"accumulate": 2}])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_bits_of_a_copy(backend, options, weighted):
    weight = WEIGHT if weighted else None
    with fm.use_backend(backend):
        ref = fit(X[INDEX], Y[INDEX], sample_weight=None if weight is None else weight[INDEX], **options)
        assert fit(RowSubset(X, INDEX), Y, sample_weight=weight, **options) == ref


def test_sparse_rows():
    sparse = pytest.importorskip("scipy.sparse")
    matrix = sparse.csr_array(X)
    assert fit(RowSubset(matrix, INDEX), Y) == fit(X[INDEX], Y[INDEX])


def test_windows_of_neighbors(monkeypatch):
    """An order in windows takes the rows in ascending order, as they are in a file."""
    monkeypatch.setattr(row_order, "BLOCK_NUMBERS", 6)
    monkeypatch.setattr(row_order, "WINDOW", 8)
    ref = np.sort(INDEX)
    comp = fit(RowSubset(X, INDEX), Y, shuffle="windows")
    assert comp == fit(X[ref], Y[ref], shuffle="windows")


def test_the_array_is_not_copied():
    model = fm.MLP(6, [5], 3, rng=0)
    rows = check_rows(RowSubset(X, INDEX), Y, None, model, fm.CrossEntropyLoss(), "fit")
    assert np.shares_memory(rows.X, X) and len(rows) == len(INDEX)
    np.testing.assert_array_equal(rows.take(slice(None))[0], X[INDEX])


def test_weights_of_the_rows_alone_count():
    weight = np.ones(50)
    weight[INDEX] = 0
    with pytest.raises(ValueError, match="sample_weight sums to 0 over 37 rows"):
        fit(RowSubset(X, INDEX), Y, sample_weight=weight)


@pytest.mark.parametrize("weighted", [False, True])
def test_another_subset_is_another_fit(tmp_path, weighted):
    options = {"sample_weight": WEIGHT + 1} if weighted else {}
    state = tmp_path / "state"
    fit(RowSubset(X, INDEX), Y, callbacks=fm.SaveState(state), **options)
    assert fit(RowSubset(X, INDEX), Y, resume=state, callbacks=fm.SaveState(state), **options)
    with pytest.raises(fm.ResumeError, match="its training rows is"):
        fit(RowSubset(X, np.arange(37)), Y, resume=state, callbacks=fm.SaveState(state), **options)
