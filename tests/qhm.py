"""Example of a user-defined optimizer formula: quasi-hyperbolic momentum (Ma and Yarats, arXiv:1810.06801)."""

from __future__ import annotations

from fastmlp._kernels.number import fma

STATES = ("velocity",)
NUMBERS = ("lr", "beta", "nu")


def kept(n):
    return (n[2] != 0.0,)


def update(g, p, v, n):
    if n[2] != 0.0:
        v = fma(g - v, 1.0 - n[1], v)
        g = fma(v - g, n[2], g)
    return fma(g, -n[0], p), v
