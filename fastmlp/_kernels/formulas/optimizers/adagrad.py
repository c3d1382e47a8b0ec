"""Adagrad: g += weight_decay p; s += g^2; p -= rate g / (sqrt(s) + eps), with rate = lr / (1 + (t - 1) lr_decay)."""

from __future__ import annotations

from ...number import fma, square_root

STATES = ("total",)
NUMBERS = ("rate", "eps", "weight_decay")


def update(g, p, s, n):
    if n[2] != 0.0:
        g = fma(p, n[2], g)
    s = fma(g, g, s)
    return fma(g / (square_root(s) + n[1]), -n[0], p), s
