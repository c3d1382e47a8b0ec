"""Device functions for the random words and normal numbers of `philox`."""

from __future__ import annotations

import functools
import math

import numpy as np

from ..._common.philox import philox_words
from ..polynomials import FLOAT32, FLOAT64
from .jit import device

__all__ = ["normal", "random_words"]

_words = device(philox_words)
_LOW, _HALF = np.uint64(0xFFFFFFFF), np.uint64(32)


@device
def random_words(c0, c1, c2, c3, seed):
    """Return the four random words of a counter (c0, c1, c2, c3); all are uint64, counter words below 2^32."""
    return _words(c0, c1, c2, c3, seed & _LOW, seed >> _HALF)


@functools.cache
def normal(dtype):
    """Return f(of_radius, of_angle, second) -> one of the two numbers of `philox.normal_pairs` for two words.

    sqrt(-2 log u) cos t = sqrt(-log u) (cos f - sin f) and sqrt(-2 log u) sin t = sqrt(-log u) (cos f + sin f) with
    f = t - pi / 4.
    """
    T = np.dtype(dtype).type
    constants = FLOAT32 if T == np.float32 else FLOAT64
    sines, cosines = (tuple(map(T, numbers[::-1])) for numbers in (constants.sin, constants.cos))
    one, half, quarter_turn = T(1), T(0.5), T(constants.half_pi)
    of_24_bits, of_22_bits = T(2.0**-24), T(2.0**-22)
    upper, sign, other_sign = np.uint64(8), np.uint64(31), np.uint64(30)
    bits, bit = np.uint64(0x3FFFFF), np.uint64(1)

    @device
    def run(of_radius, of_angle, second):
        radius = math.sqrt(-math.log(T(of_radius >> upper) * of_24_bits + of_24_bits))
        f = T((of_angle >> upper) & bits) * of_22_bits - half
        z, sine, cosine = f * f, T(0), T(0)
        for number in sines:
            sine = sine * z + number
        for number in cosines:
            cosine = cosine * z + number
        sine, cosine = sine * z * f + quarter_turn * f, cosine * z + one
        negative = (of_angle >> (other_sign if second else sign)) & bit
        value = radius * (cosine + sine if second else cosine - sine)
        return -value if negative == bit else value

    return run
