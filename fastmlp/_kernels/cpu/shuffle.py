"""Compiled version of `philox.shuffle_order`, which runs without the GIL while a GPU computes steps."""

from __future__ import annotations

import numpy as np

from ..._common import philox
from ..._common.philox import SHUFFLE
from .declare import INTS, ORDER, WORD
from .jit import kernel
from .random import philox_words

__all__ = ["shuffle_order"]

_LOW, _HALF, _PURPOSE = np.uint64(0xFFFFFFFF), np.uint64(32), np.uint64(SHUFFLE << 24)
_BITS = 11  # digit width of the radix sort: 16 KiB of counts
_BINS = 1 << _BITS


@kernel(WORD, WORD, ORDER, ORDER, ORDER, ORDER, INTS)
def _draw(seed, epoch, words, lower, other, order, counts):
    """Draw the words (N,) of the rows by Philox and write the order (N,) that sorts them to ``order``.

    All arrays are (N,) of uint32, except ``counts (BINS,)``; the others are scratch.
    """
    rows, mask = words.size, np.uint32(_BINS - 1)
    for i in range(rows):
        drawn = philox_words(np.uint64(i), np.uint64(0), epoch, _PURPOSE, seed & _LOW, seed >> _HALF)
        words[i], lower[i], other[i] = drawn[0], drawn[1], i
    # LSD radix sort: each pass is stable, so it keeps the order of earlier passes within a digit.
    source, target = other, order  # three passes end in ``order``
    for number in range(3):
        shift = np.uint32(_BITS * number)
        counts[:] = 0
        for i in range(rows):
            counts[(words[i] >> shift) & mask] += 1
        before = 0
        for digit in range(_BINS):
            counts[digit], before = before, before + counts[digit]
        for i in range(rows):
            row = source[i]
            digit = (words[row] >> shift) & mask
            target[counts[digit]] = row
            counts[digit] += 1
        source, target = target, source
    # Ties in the upper word are few, so an insertion sort orders them by the lower word.
    for i in range(1, rows):
        row, j = order[i], i
        while j > 0 and words[order[j - 1]] == words[row] and lower[order[j - 1]] > lower[row]:
            order[j] = order[j - 1]
            j -= 1
        order[j] = row


def shuffle_order(seed: int, epoch: int, n: int) -> np.ndarray:
    """Return `philox.shuffle_order`."""
    if n >= 1 << 32:  # the kernel's row numbers are uint32
        return philox.shuffle_order(seed, epoch, n)
    words, lower, other, order = np.empty((4, n), np.uint32)
    counts = np.empty(_BINS, np.int64)
    _draw(np.uint64(seed), np.uint64(epoch), words, lower, other, order, counts)
    return order.astype(np.int64)
