"""Binary focal loss from logits: A r^gamma c; a is gamma, b is alpha, or negative for no alpha.

With p = sigmoid(x), c = t softplus(-x) + (1 - t) softplus(x) is the cross-entropy and r = t (1 - p) + (1 - t) p is the
probability of the wrong class. A = alpha t + (1 - alpha) (1 - t), or 1 for no alpha.
"""

from __future__ import annotations

from ...number import exp, fma, full_like, log, sigmoid, softplus, where


def loss(x, t, w, a, b):
    other, p, q = 1.0 - t, sigmoid(x), sigmoid(-x)
    entropy = fma(t, softplus(-x), other * softplus(x))
    missed = fma(t, q, other * p)
    missed = where(missed > 1e-37, missed, full_like(missed, 1e-37))  # keeps the logarithm finite
    weight = where(full_like(x, b) < 0.0, full_like(x, 1.0), b * t + (1.0 - b) * other) * exp(a * log(missed))
    slope = fma(other, p, -(t * q))
    return weight * entropy, weight * fma(a * (other - t) * p * q, entropy / missed, slope)
