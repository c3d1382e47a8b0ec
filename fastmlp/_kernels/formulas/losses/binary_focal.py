"""A r^gamma c: the binary focal loss from logits; a is gamma, b is alpha, or below 0 for none.

With p = sigmoid(x), c = t softplus(-x) + (1 - t) softplus(x) is the cross-entropy, r = t (1 - p) + (1 - t) p the
probability that is missed, and A = alpha t + (1 - alpha) (1 - t).
"""

from __future__ import annotations

from ...number import exp, fma, full_like, log, sigmoid, softplus, where


def loss(x, t, w, a, b):
    other, p, q = 1.0 - t, sigmoid(x), sigmoid(-x)
    entropy = fma(t, softplus(-x), other * softplus(x))
    missed = fma(t, q, other * p)
    missed = where(missed > 1e-37, missed, full_like(missed, 1e-37))  # above 0: its logarithm is finite
    weight = where(full_like(x, b) < 0.0, full_like(x, 1.0), b * t + (1.0 - b) * other) * exp(a * log(missed))
    slope = fma(other, p, -(t * q))
    return weight * entropy, weight * fma(a * (other - t) * p * q, entropy / missed, slope)
