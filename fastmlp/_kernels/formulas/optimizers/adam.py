"""Adam: m += (1 - b1) (g - m); s = b2 s + (1 - b2) g^2; p -= lr / (1 - b1^t) m / (sqrt(s / (1 - b2^t)) + eps).

Weight decay comes first: g += weight_decay p, or, decoupled (AdamW), p *= 1 - lr weight_decay.
"""

from __future__ import annotations

from ...number import fma, square_root

STATES = ("exp_avg", "exp_avg_sq")
# rate: lr / (1 - b1^t). shrink: 1 - lr weight_decay with decoupled weight decay, else 1. unroot: 1 / sqrt(1 - b2^t);
# a factor, because a second division would cost as much as the rest of the update.
NUMBERS = ("rate", "1 - b1", "b2", "1 - b2", "eps", "weight_decay", "shrink", "unroot")


def update(g, p, m, s, n):
    if n[5] != 0.0:
        g = fma(p, n[5], g)
    m = fma(g - m, n[1], m)
    s = fma(g * g, n[3], s * n[2])
    root = fma(square_root(s), n[7], n[4])
    return fma(m / root, -n[0], p * n[6]), m, s
