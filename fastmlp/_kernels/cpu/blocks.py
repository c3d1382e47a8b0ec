"""Loops over a block of weights or of their gradients, in whole vectors (phase 2 of `engine`)."""

from __future__ import annotations

import numpy as np

from .elementwise import clamp
from .jit import inline
from .simd import fma, keep_first, lane_sum, lanes, load, load_tail, store

__all__ = ["add", "average", "clear", "clip", "copy", "penalize", "scale", "squares", "zero"]


@inline
def clear(a, at, size, filled, stride):
    """Zero the padding columns of ``a`` in the last vector of each row."""
    width = lanes(a)
    for i in range(at + stride - width, at + size, stride):
        store(a, i, keep_first(load(a, i), filled - (stride - width), 0.0))


@inline
def penalize(work, out, weights, at, size, factor):
    """Add ``factor`` W to the gradient of a block W of weights; return the sum of W's squares."""
    width = lanes(work)
    zeros = load_tail(work, 0, 0)
    a, b = zeros, zeros
    for i in range(0, size - width, 2 * width):
        v, w = load(weights, at + i), load(weights, at + i + width)
        store(work, out + i, fma(v, factor, load(work, out + i)))
        store(work, out + i + width, fma(w, factor, load(work, out + i + width)))
        a, b = fma(v, v, a), fma(w, w, b)
    if size % (2 * width) != 0:
        i = size - width
        v = load(weights, at + i)
        store(work, out + i, fma(v, factor, load(work, out + i)))
        a = fma(v, v, a)
    return np.float64(lane_sum(a + b))


@inline
def average(weights, at, average, size, share):
    """Move an average toward the weights by the fraction ``share``."""
    for i in range(0, size, lanes(weights)):
        old = load(weights, average + i)
        store(weights, average + i, fma(load(weights, at + i) - old, share, old))


@inline
def add(work, at, more, size):
    """Compute work[at ..] += work[more ..]."""
    for i in range(0, size, lanes(work)):
        store(work, at + i, load(work, at + i) + load(work, more + i))


@inline
def zero(work, at, size):
    zeros = load_tail(work, 0, 0)
    for i in range(at, at + size, lanes(work)):
        store(work, i, zeros)


@inline
def copy(work, at, source, size):
    for i in range(0, size, lanes(work)):
        store(work, at + i, load(work, source + i))


@inline
def clip(work, at, size, bound):
    for i in range(at, at + size, lanes(work)):
        store(work, i, clamp(load(work, i), bound))


@inline
def scale(work, at, size, factor):
    for i in range(at, at + size, lanes(work)):
        store(work, i, load(work, i) * factor)


@inline
def squares(work, at, size):
    """Return the sum of the squares of work[at .. at + size] in float64, as four sums of every fourth element."""
    a, b, c, d = 0.0, 0.0, 0.0, 0.0
    for i in range(at, at + size, 4):
        a, b = a + np.float64(work[i]) ** 2, b + np.float64(work[i + 1]) ** 2
        c, d = c + np.float64(work[i + 2]) ** 2, d + np.float64(work[i + 3]) ** 2
    return (a + b) + (c + d)
