"""Deterministic split into a training and a test part."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from .._common.errors import DataError

__all__ = ["draw_test_rows", "split_rows"]

_BLOCK = 1 << 20  # rows that are compared at once
_COUNTS = 1 << 20  # most counts of keys by label and leading bits


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


def draw_test_rows(
    rows: int, test_size: float, seed: int, labels: np.ndarray | None = None, out: np.ndarray | None = None
) -> np.ndarray:
    """Return a mask of the test rows of `split_rows`, bool (rows,), or write it to ``out``.

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
    in_test = np.empty(rows, bool) if out is None else out
    if labels is None:
        labels, quotas = np.broadcast_to(np.uint8(0), rows), np.array([count])
    else:
        most = int(labels.max())
        sizes = sum(np.bincount(labels[at : at + _BLOCK], minlength=most + 1) for at in range(0, rows, _BLOCK))
        quotas = _quotas(np.asarray(sizes), count)
    _mark_smallest(in_test, seed, labels, quotas)
    return in_test


def _mark_smallest(in_test: np.ndarray, seed: int, labels: np.ndarray, quotas: np.ndarray) -> None:
    """Mark the ``quotas[label]`` rows with the smallest keys of each label; of equal keys the first."""
    # The keys are drawn three times, as those of all rows would take much memory.
    bounds, wanted = _largest_keys(len(in_test), seed, labels, quotas), quotas > 0
    marked = np.zeros(len(quotas), np.int64)
    for part, keys in _keys(len(in_test), seed):
        of_rows = labels[part]
        in_test[part] = (keys <= bounds[of_rows]) & wanted[of_rows]
        marked += np.bincount(of_rows[in_test[part]], minlength=len(quotas))
    surplus = marked - quotas
    if surplus.any():
        equal = [part.start + np.flatnonzero(keys == bounds[labels[part]]) for part, keys in _keys(len(in_test), seed)]
        rows = np.concatenate(equal)
        for label in np.flatnonzero(surplus):
            in_test[rows[labels[rows] == label][-surplus[label] :]] = False


def _largest_keys(rows: int, seed: int, labels: np.ndarray, quotas: np.ndarray) -> np.ndarray:
    """Return the largest of the ``quotas[label]`` smallest keys of each label, uint64; 0 for a quota of 0.

    The first pass counts keys by their leading bits, the second one collects those with the bits of the result.
    """
    bits = max(1, min(16, (_COUNTS // len(quotas)).bit_length() - 1))
    shift = np.uint64(64 - bits)
    counts = np.zeros((len(quotas), 1 << bits), np.int64)
    for part, keys in _keys(rows, seed):
        places = labels[part].astype(np.int64) << bits | (keys >> shift).astype(np.int64)
        counts += np.bincount(places, minlength=counts.size).reshape(counts.shape)
    through = counts.cumsum(axis=1)
    leading = (through < quotas[:, None]).sum(axis=1)
    chosen = np.flatnonzero(quotas)
    ranks = quotas[chosen] - (through - counts)[chosen, leading[chosen]] - 1
    found = []
    for part, keys in _keys(rows, seed):
        near = np.flatnonzero(keys >> shift == leading.astype(np.uint64)[labels[part]])
        found.append((labels[part][near], keys[near]))
    of_keys, keys = (np.concatenate(arrays) for arrays in zip(*found, strict=True))
    order = np.lexsort((keys, of_keys))
    bounds = np.zeros(len(quotas), np.uint64)
    bounds[chosen] = keys[order][np.searchsorted(of_keys[order], chosen) + ranks]
    return bounds


def _keys(rows: int, seed: int) -> Iterator[tuple[slice, np.ndarray]]:
    """Yield slices of the rows with their keys."""
    # NumPy guarantees the raw output of a bit generator across versions, but not shuffles and permutations.
    generator = np.random.PCG64(int(seed))
    for start in range(0, rows, _BLOCK):
        part = slice(start, min(rows, start + _BLOCK))
        yield part, np.asarray(generator.random_raw(part.stop - start))


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
