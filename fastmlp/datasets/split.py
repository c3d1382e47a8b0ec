"""Deterministic split into a training and a test part."""

from __future__ import annotations

import math

import numpy as np

from .._common.errors import DataError

__all__ = ["split_rows"]


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
    if isinstance(test_size, bool) or not isinstance(test_size, (int, float)) or not 0 < test_size < 1:
        raise DataError(f"test_size is {test_size!r}; expected a share of the rows between 0 and 1.")
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or seed < 0:
        raise DataError(f"seed is {seed!r}; expected an integer that is not negative.")
    if rows < 2:
        raise DataError(f"The table has {rows} row; a training and a test part need at least 2.")
    # The tolerance keeps a product such as 100 * 0.07 = 7.000000000000001 from being rounded up to 8.
    count = min(max(1, math.ceil(rows * test_size - 1e-9)), rows - 1)
    # NumPy guarantees the raw output of a bit generator across versions, but not shuffles and permutations.
    keys = np.asarray(np.random.PCG64(int(seed)).random_raw(rows))
    if labels is None:
        chosen = np.argsort(keys, kind="stable")[:count]
    else:
        labels = labels.astype(np.min_scalar_type(labels.max()))
        quotas = _quotas(np.bincount(labels), count)
        order = np.lexsort((keys, labels))
        starts = np.concatenate(([0], np.cumsum(np.bincount(labels))[:-1]))
        chosen = np.concatenate([order[s : s + q] for s, q in zip(starts, quotas, strict=True)])
        del order
    in_test = np.zeros(rows, dtype=bool)
    in_test[chosen] = True
    del keys, chosen  # each has a number for each row
    return np.flatnonzero(~in_test), np.flatnonzero(in_test)


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
