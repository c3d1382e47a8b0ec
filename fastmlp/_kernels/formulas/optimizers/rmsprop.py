"""RMSprop: g += weight_decay p; s = alpha s + (1 - alpha) g^2; u = g / (sqrt(s) + eps); p -= lr u.

The centered variant replaces s under the root by s - m^2, with m += (1 - alpha) (g - m). With momentum,
v = momentum v + u and p -= lr v.
"""

from __future__ import annotations

from ...number import fma, square_root

STATES = ("square_avg", "grad_avg", "velocity")
NUMBERS = ("lr", "alpha", "1 - alpha", "eps", "weight_decay", "momentum", "centered")


def kept(n):
    return True, n[6] != 0.0, n[5] != 0.0


def update(g, p, s, m, v, n):
    if n[4] != 0.0:
        g = fma(p, n[4], g)
    s = fma(g * g, n[2], s * n[1])
    variance = s
    if n[6] != 0.0:
        m = fma(g - m, n[2], m)
        variance = s - m * m
    u = g / (square_root(variance) + n[3])
    if n[5] != 0.0:
        v = fma(v, n[5], u)
        u = v
    return fma(u, -n[0], p), s, m, v
