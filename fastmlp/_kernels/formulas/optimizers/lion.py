"""Lion: c = b1 m + (1 - b1) g; p -= lr (sign(c) + weight_decay p); m = b2 m + (1 - b2) g."""

from __future__ import annotations

from ...number import fma, full_like, where

STATES = ("exp_avg",)
NUMBERS = ("lr", "1 - b1", "1 - b2", "shrink")  # shrink: 1 - lr weight_decay


def update(g, p, m, n):
    c, one = fma(g - m, n[1], m), full_like(p, 1.0)
    sign = where(c > 0.0, one, where(c < 0.0, -one, c))  # c is 0 or NaN
    return fma(sign, -n[0], p * n[3]), fma(g - m, n[2], m)
