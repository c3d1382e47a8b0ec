"""Deterministic split into a training and a test part."""

from __future__ import annotations

import math

import numpy as np

from .._common.errors import DataError

__all__ = ["draw_test_rows", "split_rows"]

_BLOCK = 1 << 20  # rows that are compared at once


def split_rows(
    rows: int, test_size: float, seed: int, labels: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Draw the rows of the training and the test part.

    Each row gets a 64-bit key, the output of PCG64 seeded with `seed`, in row order. The `rows * test_size` rows
    (rounded up) with the smallest keys are the test part. With `labels` the selection is made within each class: the
    test rows are distributed over the classes in proportion to their sizes (largest remainder first, ties to the lower
    label), and each class keeps at least one training row.

    Parameters
    ----------
    rows : int
        Number of rows, at least 2.
    test_size : float
        Share of the test part, between 0 and 1 (exclusive). Each part has at least one row.
    seed : int
        Seed of the draw, not negative.
    labels : ndarray of int, shape (rows,), optional
        Class index of each row, for a stratified split.

    Returns
    -------
    train, test : ndarray of int64
        Row numbers in ascending order.

    Raises
    ------
    DataError
        If `test_size`, `seed` or `rows` is out of range.

    Examples
    --------
    >>> train, test = split_rows(10, 0.2, seed=0)
    >>> len(train), len(test)
    (8, 2)
    """
    in_test = draw_test_rows(rows, test_size, seed, labels)
    return np.flatnonzero(~in_test), np.flatnonzero(in_test)


def draw_test_rows(rows: int, test_size: float, seed: int, labels: np.ndarray | None = None) -> np.ndarray:
    """Return a mask of the test rows of `split_rows`, bool (rows,).

    Examples
    --------
    >>> int(draw_test_rows(10, 0.2, seed=0).sum())
    2
    """
    if isinstance(test_size, bool) or not isinstance(test_size, (int, float)) or not 0 < test_size < 1:
        raise DataError(f"test_size is {test_size!r}; expected a share of the rows between 0 and 1.")
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or seed < 0:
        raise DataError(f"seed is {seed!r}; expected an integer that is not negative.")
    if rows < 2:
        raise DataError(f"The table has {rows} row; a training and a test part need at least 2.")
    # The tolerance keeps a product such as 100 * 0.07 = 7.000000000000001 from being rounded up to 8.
    count = min(max(1, math.ceil(rows * test_size - 1e-9)), rows - 1)
    if labels is None:
        labels, quotas = np.zeros(rows, np.uint8), np.array([count])
    else:
        labels = labels.astype(np.min_scalar_type(labels.max()))
        quotas = _quotas(np.bincount(labels), count)
    return _smallest(rows, seed, labels, quotas)


def _smallest(rows: int, seed: int, labels: np.ndarray, quotas: np.ndarray) -> np.ndarray:
    """Return a mask of the ``quotas[label]`` rows with the smallest keys of each label; of equal keys the first."""
    # One array with a number for each row at a time: the keys are drawn again instead of being sorted with the rows.
    keys = _keys(rows, seed)
    bounds = np.zeros(len(quotas), np.uint64)
    if len(quotas) == 1:
        keys.partition(quotas[0] - 1)
        bounds[0] = keys[quotas[0] - 1]
    else:
        for label in np.flatnonzero(quotas):
            chosen = keys[labels == label]
            chosen.partition(quotas[label] - 1)
            bounds[label] = chosen[quotas[label] - 1]
    del keys
    keys = _keys(rows, seed)
    in_test = np.empty(rows, bool)
    for start in range(0, rows, _BLOCK):
        part = slice(start, start + _BLOCK)
        in_test[part] = (keys[part] <= bounds[labels[part]]) & (quotas > 0)[labels[part]]
    for label in np.flatnonzero(np.bincount(labels[in_test], minlength=len(quotas)) > quotas):
        equal = np.flatnonzero((labels == label) & (keys == bounds[label]))
        surplus = int(np.count_nonzero(in_test & (labels == label)) - quotas[label])
        in_test[equal[len(equal) - surplus :]] = False
    return in_test


def _keys(rows: int, seed: int) -> np.ndarray:
    # NumPy guarantees the raw output of a bit generator across versions, but not shuffles and permutations.
    return np.asarray(np.random.PCG64(int(seed)).random_raw(rows))


def _quotas(sizes: np.ndarray, count: int) -> np.ndarray:
    """Distribute `count` test rows over classes of `sizes` rows by largest remainder; each class keeps one row."""
    exact = sizes * (count / sizes.sum())
    most = np.maximum(sizes - 1, 0)
    quotas: np.ndarray = np.minimum(np.floor(exact).astype(np.int64), most)
    by_remainder = np.argsort(-(exact - np.floor(exact)), kind="stable")
    # A second round is needed only if classes with a single row left their share to others.
    while quotas.sum() < count and (quotas < most).any():
        for label in by_remainder:
            if quotas.sum() < count and quotas[label] < most[label]:
                quotas[label] += 1
    return quotas
