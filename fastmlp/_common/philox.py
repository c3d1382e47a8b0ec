"""Counter-based random numbers: Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as
1, 2, 3", SC 2011), in NumPy.

A random word is a function of a 64-bit key and a 128-bit counter. The key is the seed. The counter encodes the use of
the word, so that results depend neither on the order of calls nor on threads:

    counter = (column // 4, row, step or epoch, purpose << 24 | layer), word = column % 4
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from .arithmetic import ceil_div

__all__ = [
    "BLOCKS", "DROPOUT", "FLIP", "INIT", "MIXUP", "NOISE", "ROUNDS", "SHUFFLE", "LargeOrder", "derive_seed",
    "normal_pairs", "normals", "philox4x32", "philox_words", "shuffle_order", "shuffle_ranges",
]  # fmt: skip

# Purposes, the top byte of the last counter word.
INIT, SHUFFLE, DROPOUT, NOISE, FLIP, MIXUP, BLOCKS = 1, 2, 3, 4, 5, 6, 7

ROUNDS = 10
MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
KEY_STEPS = (0x9E3779B9, 0xBB67AE85)
_MULTIPLIERS = tuple(np.uint64(number) for number in MULTIPLIERS)
_KEY_STEPS = tuple(np.uint64(number) for number in KEY_STEPS)
_LOW = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)

# Rows per block of `shuffle_order`, a power of 2: six buffers of 64 KiB fit in the L2 cache.
_BLOCK = 8192


def philox4x32(counter: tuple[npt.ArrayLike, ...], seed: int) -> tuple[np.ndarray, ...]:
    """Return the four 32-bit random words of each counter, as four uint64 arrays.

    Parameters
    ----------
    counter : tuple of four array_like
        Words of the counters, each below 2**32, lowest first; broadcast against each other.
    seed : int
        Key, from 0 to 2**64 - 1.

    Returns
    -------
    tuple of four ndarray of uint64
        In the broadcast shape; each value is below 2**32.

    Examples
    --------
    >>> [hex(word) for word in philox4x32((0, 0, 0, 0), 0)]
    ['0x6627e8d5', '0xe169c58d', '0xbc57ac4c', '0x9b00dbd8']
    """
    c0, c1, c2, c3 = (np.asarray(word, np.uint64) for word in np.broadcast_arrays(*counter))
    return philox_words(c0, c1, c2, c3, np.uint64(seed & 0xFFFFFFFF), np.uint64(seed >> 32))


def philox_words(c0: Any, c1: Any, c2: Any, c3: Any, key0: Any, key1: Any) -> tuple[Any, Any, Any, Any]:
    """The four words of a counter, in the lower halves of uint64, as all arguments are: numbers or arrays.

    This is the one formula, which kernels for processors and GPUs compile too; `_upper_words` is the same in place, and
    `_kernels.cpu.random` makes vector instructions of it.
    """
    for _ in range(ROUNDS):
        product0, product1 = c0 * _MULTIPLIERS[0], c2 * _MULTIPLIERS[1]
        c0, c1 = (product1 >> _HALF) ^ c1 ^ key0, product1 & _LOW
        c2, c3 = (product0 >> _HALF) ^ c3 ^ key1, product0 & _LOW
        key0, key1 = (key0 + _KEY_STEPS[0]) & _LOW, (key1 + _KEY_STEPS[1]) & _LOW
    return c0, c1, c2, c3


def shuffle_order(seed: int, epoch: int, n: int) -> np.ndarray:
    """Return the order of ``n`` rows in an epoch, int64 (n,): rows sorted by a random 64-bit key each.

    The key of a row is its first two Philox words.
    """
    return _sort_rows(seed, epoch, _upper_words(seed, epoch, n), None)


def shuffle_ranges(seed: int, epoch: int, ranges: Sequence[tuple[int, int]]) -> np.ndarray:
    """Return the rows of some ranges (start, stop), int64, in the order that they have in `shuffle_order` of all rows.

    The ranges are in ascending order; each begins at a multiple of a power of 2 that is at least its length.

    Examples
    --------
    >>> order = shuffle_order(3, 0, 10)
    >>> np.array_equal(shuffle_ranges(3, 0, [(0, 2), (8, 10)]), order[(order < 2) | (order >= 8)])
    True
    """
    upper = np.concatenate([_upper_words(seed, epoch, stop - start, start) for start, stop in ranges])
    return _sort_rows(seed, epoch, upper, np.concatenate([np.arange(start, stop) for start, stop in ranges]))


class LargeOrder:
    """Order of `shuffle_order` that takes 4 bytes a row: sorted by some leading bits of the keys, the rest on demand.

    Parameters
    ----------
    seed, epoch : int
    n : int
        Number of rows, below 2**32.

    Examples
    --------
    >>> order = LargeOrder(3, 0, 1000)
    >>> np.array_equal(order[300:500], shuffle_order(3, 0, 1000)[300:500])
    True
    """

    PART = 1 << 17  # rows that are sorted at once, about: their keys and numbers fit in the L2 cache
    BLOCK = 1 << 20  # rows that are divided into the parts at once

    def __init__(self, seed: int, epoch: int, n: int) -> None:
        self._seed, self._epoch = seed, epoch
        bits = min(8, max(1, ceil_div(n, self.PART)).bit_length())
        self._sorted: tuple[int, np.ndarray] = (-1, np.zeros(0, np.int64))
        parts = np.empty(n, np.uint8)  # the part of each row: the leading bits of its key
        blocks = [slice(start, min(n, start + self.BLOCK)) for start in range(0, n, self.BLOCK)]
        for block in blocks:
            words = _upper_words(seed, epoch, block.stop - block.start, block.start)
            parts[block] = words >> np.uint32(32 - bits)
        counts = [np.bincount(parts[block], minlength=1 << bits) for block in blocks]
        self._starts = np.append(0, np.cumsum(np.sum(counts, axis=0)))
        self._rows = np.empty(n, np.uint32)
        places = self._starts[:-1].copy()
        for block, sizes in zip(blocks, counts, strict=True):
            rows = (np.argsort(parts[block], kind="stable") + block.start).astype(np.uint32)
            for place, some in zip(places.tolist(), np.split(rows, np.cumsum(sizes)[:-1]), strict=True):
                self._rows[place : place + len(some)] = some
            places += sizes

    def __getitem__(self, places: slice) -> np.ndarray:
        """Return the row numbers at ``places``, a slice of step 1, int64."""
        start, stop, _ = places.indices(len(self._rows))
        found = []
        for part in range(int(np.searchsorted(self._starts, start, "right")) - 1, len(self._starts) - 1):
            first = int(self._starts[part])
            if first >= stop:
                break
            found.append(self._part(part)[max(0, start - first) : stop - first])
        return found[0] if len(found) == 1 else np.concatenate(found or [np.zeros(0, np.int64)])

    def _part(self, number: int) -> np.ndarray:
        if self._sorted[0] != number:
            rows = self._rows[self._starts[number] : self._starts[number + 1]].astype(np.int64)
            upper = _upper_words(self._seed, self._epoch, len(rows), rows=rows)
            self._sorted = number, _sort_rows(self._seed, self._epoch, upper, rows)
        return self._sorted[1]


def _sort_rows(seed: int, epoch: int, upper: np.ndarray, rows: np.ndarray | None) -> np.ndarray:
    """Return ascending ``rows``, None for all from 0, sorted by their keys; ``upper`` has the first words of these.

    The rows are sorted by the lower and then by the upper half of the first word, since NumPy's stable sort of 16-bit
    numbers is a radix sort; the few rows that share the first word are then sorted by the whole key.
    """
    order = np.argsort(upper.astype(np.uint16), kind="stable")
    order = order[np.argsort((upper >> np.uint32(16)).astype(np.uint16)[order], kind="stable")]
    ranked = upper[order]
    if rows is not None:
        order = rows[order]
    same = ranked[1:] == ranked[:-1]
    if same.any():
        place = np.flatnonzero(np.append(same, False) | np.append(False, same))
        tied = order[place].astype(np.uint64)
        high, low, _, _ = philox4x32((tied & _LOW, tied >> _HALF, np.uint64(epoch), np.uint64(SHUFFLE << 24)), seed)
        # Runs of equal upper words are in ascending order, so that one sort handles all of them.
        order[place] = order[place][np.argsort(high << _HALF | low, kind="stable")]
    return order


def _upper_words(seed: int, epoch: int, n: int, first: int = 0, rows: np.ndarray | None = None) -> np.ndarray:
    """Return the first Philox word of the counters (row, row >> 32, epoch, SHUFFLE << 24), uint32 (n,).

    The rows are those from ``first`` on, a multiple of a power of 2 that is at least ``n``; or ``rows``, all of them
    below 2**32. Computes `philox4x32` in place, block by block. Within a block only the first word of the counter
    varies, so that half of the first round is scalar; the last round computes only the word that is returned.
    """
    words = np.empty(n, np.uint32)
    size = min(n, _BLOCK)
    buffers = np.empty((6, size), np.uint64)
    within = np.arange(size, dtype=np.uint64)
    keys = [[key + i * step for i in range(ROUNDS)] for key, step in zip((seed & 0xFFFFFFFF, seed >> 32), KEY_STEPS)]
    keys0, keys1 = np.array(keys, np.uint64) & _LOW
    # 0-d arrays: NumPy would convert a scalar in each call.
    m0, m1, low, half = (np.array(value, np.uint64) for value in (*MULTIPLIERS, _LOW, _HALF))
    product = epoch * MULTIPLIERS[1]
    for start in range(0, n, _BLOCK):
        count = min(_BLOCK, n - start)
        c0, c1, c2, c3, p0, p1 = buffers[:, :count]
        row = first + start
        if rows is None:
            np.bitwise_or(within[:count], np.uint64(row & 0xFFFFFFFF), out=c0)
        else:
            c0[:] = rows[start : start + count]
            row = 0  # for the upper half
        np.multiply(c0, m0, out=p0)
        c0[:] = product >> 32 ^ row >> 32 ^ int(keys0[0])
        c1[:] = product & 0xFFFFFFFF
        np.right_shift(p0, half, out=c2)
        np.bitwise_xor(c2, np.uint64(SHUFFLE << 24) ^ keys1[0], out=c2)
        np.bitwise_and(p0, low, out=c3)
        for i in range(1, ROUNDS - 1):
            np.multiply(c0, m0, out=p0)
            np.multiply(c2, m1, out=p1)
            np.right_shift(p1, half, out=c0)
            np.bitwise_xor(c0, c1, out=c0)
            np.bitwise_xor(c0, keys0[i, ...], out=c0)
            np.bitwise_and(p1, low, out=c1)
            np.right_shift(p0, half, out=c2)
            np.bitwise_xor(c2, c3, out=c2)
            np.bitwise_xor(c2, keys1[i, ...], out=c2)
            np.bitwise_and(p0, low, out=c3)
        np.multiply(c2, m1, out=p1)
        np.right_shift(p1, half, out=p1)
        np.bitwise_xor(p1, c1, out=p1)
        np.bitwise_xor(p1, keys0[-1, ...], out=p1)
        words[start : start + count] = p1
    return words


def normals(seed: int, step: int, rows: int, columns: int) -> np.ndarray:
    """Return standard normal numbers for the elements of a batch, float64 (rows, columns).

    Within each block of 32 columns, the words of columns k and k + 16 give the numbers of these two columns, see
    `normal_pairs`.
    """
    blocks = ceil_div(columns, 32)
    counter = (np.arange(8 * blocks)[None, :], np.arange(rows)[:, None], step & 0xFFFFFFFF, NOISE << 24)
    words = np.stack(philox4x32(counter, seed), axis=-1).reshape(rows, blocks, 2, 16)
    pairs = np.stack(normal_pairs(words[:, :, 0], words[:, :, 1]), axis=2)
    return pairs.reshape(rows, 32 * blocks)[:, :columns]


def normal_pairs(of_radius: np.ndarray, of_angle: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return pairs of independent standard normal numbers: (r cos t, r sin t) with r = sqrt(-2 log u).

    The method is that of Box and Muller (1958, doi:10.1214/aoms/1177706645). u is (1 + the upper 24 bits of
    ``of_radius``) 2^-24, so that no number is larger than 5.77 in size. The two upper bits of ``of_angle`` are the
    signs of cosine and sine; its next 22 bits are t / (pi / 2).
    """
    of_radius, of_angle = of_radius.astype(np.int64), of_angle.astype(np.int64)
    radius = np.sqrt(-2 * np.log(((of_radius >> 8) + 1) * 2.0**-24))
    angle = np.pi / 2 * ((of_angle >> 8 & 0x3FFFFF) * 2.0**-22)
    first, second = 1 - 2 * (of_angle >> 31), 1 - 2 * (of_angle >> 30 & 1)
    return radius * first * np.cos(angle), radius * second * np.sin(angle)


def derive_seed(seed: int, purpose: int, layer: int) -> int:
    """Return a 64-bit seed that is specific to a purpose and a layer."""
    high, low, _, _ = philox4x32((np.uint64(0), np.uint64(0), np.uint64(layer), np.uint64(purpose << 24)), seed)
    return int(high) << 32 | int(low)
