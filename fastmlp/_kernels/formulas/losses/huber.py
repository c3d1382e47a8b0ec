"""Huber loss: d^2 / 2 where |d| <= delta, else delta (|d| - delta / 2), with d = x - t; a is delta."""

from __future__ import annotations

from ...number import absolute, clamp, where


def loss(x, t, w, a, b):
    d = x - t
    size = absolute(d)
    linear = (size - 0.5 * a) * a
    return where(size > a, linear, d * d * 0.5), clamp(d, a)
