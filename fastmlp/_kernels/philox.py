"""Counter-based random numbers: Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as
1, 2, 3", SC 2011), in NumPy.

A random word is a function of a 64-bit key and a 128-bit counter. The key is the seed; the counter
says what the word is for, so a result depends neither on the order of calls nor on threads:

    counter = (column // 4, row, step or epoch, purpose << 24 | layer), word = column % 4
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["DROPOUT", "INIT", "ROUNDS", "SHUFFLE", "derive_seed", "philox4x32", "shuffle_order"]

# Purposes, the top byte of the last counter word.
INIT, SHUFFLE, DROPOUT = 1, 2, 3

ROUNDS = 10
MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
KEY_STEPS = (0x9E3779B9, 0xBB67AE85)
_LOW = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)


def philox4x32(counter: tuple[npt.ArrayLike, ...], seed: int) -> tuple[np.ndarray, ...]:
    """Four arrays of uint64 that hold 32-bit random words, one of each for each counter.

    Parameters
    ----------
    counter : four arrays or ints
        The counter's words, each below 2**32; broadcast against each other.
    seed : int
        The key, from 0 to 2**64 - 1.
    """
    c0, c1, c2, c3 = (np.asarray(word, np.uint64) for word in np.broadcast_arrays(*counter))
    key0, key1 = seed & 0xFFFFFFFF, seed >> 32
    for _ in range(ROUNDS):
        product0, product1 = c0 * np.uint64(MULTIPLIERS[0]), c2 * np.uint64(MULTIPLIERS[1])
        c0, c1, c2, c3 = (
            (product1 >> _HALF) ^ c1 ^ np.uint64(key0),
            product1 & _LOW,
            (product0 >> _HALF) ^ c3 ^ np.uint64(key1),
            product0 & _LOW,
        )
        key0, key1 = (key0 + KEY_STEPS[0]) & 0xFFFFFFFF, (key1 + KEY_STEPS[1]) & 0xFFFFFFFF
    return c0, c1, c2, c3


def shuffle_order(seed: int, epoch: int, n: int) -> np.ndarray:
    """The order of ``n`` rows in an epoch, int64 (n,): rows sorted by a random 64-bit word of their own."""
    rows = np.arange(n, dtype=np.uint64)
    high, low, _, _ = philox4x32((rows & _LOW, rows >> _HALF, np.uint64(epoch), np.uint64(SHUFFLE << 24)), seed)
    return np.argsort(high << _HALF | low, kind="stable")


def derive_seed(seed: int, purpose: int, layer: int) -> int:
    """A 64-bit seed of its own for one layer."""
    high, low, _, _ = philox4x32((np.uint64(0), np.uint64(0), np.uint64(layer), np.uint64(purpose << 24)), seed)
    return int(high) << 32 | int(low)
