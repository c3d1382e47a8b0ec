"""Poisson loss: e^x - t x, where x is the logarithm of the rate of a count t."""

from __future__ import annotations

from ...number import exp, fma


def loss(x, t, w, a, b):
    rate = exp(x)
    return fma(t, -x, rate), rate - t
