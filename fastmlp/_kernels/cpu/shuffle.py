"""The order of an epoch, as `philox.shuffle_order` draws it, but without the interpreter: beside a GPU's steps."""

from __future__ import annotations

import numpy as np

from ..._common.philox import SHUFFLE
from .jit import kernel
from .random import philox_words

__all__ = ["shuffle_order"]

_LOW, _HALF, _PURPOSE = np.uint64(0xFFFFFFFF), np.uint64(32), np.uint64(SHUFFLE << 24)
_BITS = 11  # of a pass of the sort: counts of 16 KiB
_BINS = 1 << _BITS


@kernel
def _draw(seed, epoch, words, lower, order, other, counts):
    """Words (N,) of rows by Philox, and order (N,) sorted by them; all but ``counts (BINS,)`` are (N,) of uint32."""
    rows, mask = words.size, np.uint32(_BINS - 1)
    for i in range(rows):
        drawn = philox_words(np.uint64(i), np.uint64(0), epoch, _PURPOSE, seed & _LOW, seed >> _HALF)
        words[i], lower[i], order[i] = drawn[0], drawn[1], i
    # From the lowest digit on: each pass leaves those of one digit in the order of the passes before.
    for number in range(3):
        shift = np.uint32(_BITS * number)
        counts[:] = 0
        for i in range(rows):
            counts[(words[i] >> shift) & mask] += 1
        before = 0
        for digit in range(_BINS):
            counts[digit], before = before, before + counts[digit]
        for i in range(rows):
            row = order[i]
            digit = (words[row] >> shift) & mask
            other[counts[digit]] = row
            counts[digit] += 1
        order, other = other, order
    # Rows that share the upper word are few: they go by the lower one.
    for i in range(1, rows):
        row, j = order[i], i
        while j > 0 and words[order[j - 1]] == words[row] and lower[order[j - 1]] > lower[row]:
            order[j] = order[j - 1]
            j -= 1
        order[j] = row
    return order


def shuffle_order(seed: int, epoch: int, n: int) -> np.ndarray:
    """As `philox.shuffle_order`, of fewer than 2**32 rows."""
    words, lower, order, other = np.empty((4, n), np.uint32)
    counts = np.empty(_BINS, np.int64)
    drawn: np.ndarray = _draw(np.uint64(seed), np.uint64(epoch), words, lower, order, other, counts)
    return drawn.astype(np.int64)
