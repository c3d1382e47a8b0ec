"""SGD: g += weight_decay p; v = momentum v + g; p -= lr (g + momentum v if nesterov else v)."""

from __future__ import annotations

from ...number import fma

STATES = ("velocity",)
NUMBERS = ("lr", "momentum", "weight_decay", "nesterov")


def kept(n):
    return (n[1] != 0.0,)


def update(g, p, v, n):
    if n[2] != 0.0:
        g = fma(p, n[2], g)
    if n[1] != 0.0:
        v = fma(v, n[1], g)
        g = fma(v, n[1], g) if n[3] != 0.0 else v
    return fma(g, -n[0], p), v
