"""Quantile (pinball) loss: q d where d = t - x > 0, else (q - 1) d, with derivative 0 at 0; a is q."""

from __future__ import annotations

from ...number import full_like, where


def loss(x, t, w, a, b):
    d = t - x
    derivative = where(d > 0.0, full_like(d, -a), where(d < 0.0, full_like(d, 1.0 - a), d))  # 0, or NaN
    return where(d > 0.0, d * a, d * (a - 1.0)), derivative
