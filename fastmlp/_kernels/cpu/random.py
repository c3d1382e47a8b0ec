"""Vectorized Philox: the words of `philox.philox4x32` for 8 consecutive counters, and numbers made from them."""

from __future__ import annotations

import numpy as np

from ..._common import philox
from ..._common.philox import philox4x32
from .host import LANES
from .jit import inline, lower
from .simd import fma, full_like, negative, square_root
from .vecmath import cos_half_pi, log, sin_half_pi

__all__ = ["WORDS", "keep_at_least", "normal_pair", "philox_words", "random_words", "word_bits"]

COUNTERS = 8  # two AVX2 vectors for each of the four words, to hide the latency of the multiplications
WORDS = 4 * COUNTERS

_LOW = 0xFFFFFFFF

philox_words = inline(philox.philox_words)


def random_words(a: np.ndarray, i: int, block: int, row: int, step: int, last: int, key0: int, key1: int) -> None:
    """Write the words of counters (block .. block + 7, row, step, last) to a[i .. i + 32].

    Each word overwrites an element as an unsigned integer of the element's width. Word w of counter block + k is at
    4 k + w.
    """
    counter = (np.arange(block, block + COUNTERS, dtype=np.uint64), row, step, last)
    words = np.stack(philox4x32(counter, int(key1) << 32 | int(key0)), axis=1).ravel()
    a[i : i + WORDS].view(f"u{a.itemsize}")[:] = words


def keep_at_least(v: np.ndarray, a: np.ndarray, i: int, threshold: int) -> np.ndarray:
    """Zero the lanes of ``v`` whose word of `random_words` in a[i ..] is below ``threshold``, which is below 2**32."""
    words = a[i : i + len(v)].view(f"u{a.itemsize}")
    return np.where(words >= threshold, v, v.dtype.type(0))


def word_bits(a: np.ndarray, i: int, low: int, count: int) -> np.ndarray:
    """Return ``count`` bits (at most 24), from bit ``low`` on, of the words of `random_words` in a[i ..], as floats."""
    unit = LANES[a.itemsize]
    words = a[i : i + unit].view(f"u{a.itemsize}")
    return (words.astype(np.int64) >> low & (1 << count) - 1).astype(a.dtype)


@inline
def normal_pair(a, i):
    """Return two vectors of standard normal numbers from the words in a[i ..] and a[i + WORDS / 2 ..].

    The numbers belong to the columns of the words, see `philox.normals`.
    """
    # With f = t - pi / 4: sqrt(-2 log u) cos t = sqrt(-log u) (cos f - sin f), and sqrt(-2 log u) sin t is
    # sqrt(-log u) (cos f + sin f).
    radius = square_root(negative(log(fma(word_bits(a, i, 8, 24), 2.0**-24, 2.0**-24))))
    angle = i + WORDS // 2
    f = word_bits(a, angle, 8, 22) * 2.0**-22 - 0.5
    cosine, sine = cos_half_pi(f), sin_half_pi(f)
    one = full_like(f, 1.0)
    first = fma(word_bits(a, angle, 31, 1), -2.0, one) * radius
    second = fma(word_bits(a, angle, 30, 1), -2.0, one) * radius
    return first * (cosine - sine), second * (cosine + sine)


lower("random")
