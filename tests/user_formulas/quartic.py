"""w (x - t)^4 a: a registered formula of a loss of single elements."""

from __future__ import annotations

from fastmlp._kernels.number import fma, full_like


def _cube(d):
    return fma(d, d * d, full_like(d, 0.0))


def loss(x, t, w, a, b):
    d = x - t
    return w * a * d * _cube(d), 4.0 * w * a * _cube(d)
