"""RAdam: m and s as in Adam; p -= rate r m / (sqrt(s) + eps) if the step has a rectification r, else p -= rate m."""

from __future__ import annotations

from ...number import fma, square_root

STATES = ("exp_avg", "exp_avg_sq")
# rate: lr / (1 - b1^t). shrink: see `adam`. rectification: r_t sqrt(1 - b2^t), or 0 for a step without rectification.
NUMBERS = ("rate", "1 - b1", "b2", "1 - b2", "eps", "weight_decay", "shrink", "rectification")


def update(g, p, m, s, n):
    if n[5] != 0.0:
        g = fma(p, n[5], g)
    m = fma(g - m, n[1], m)
    s = fma(g * g, n[3], s * n[2])
    u = m * n[7] / (square_root(s) + n[4]) if n[7] != 0.0 else m
    return fma(u, -n[0], p * n[6]), m, s
