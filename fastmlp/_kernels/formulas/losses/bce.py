"""Binary cross-entropy from logits: w t softplus(-x) + (1 - t) softplus(x); w is the weight of positive targets."""

from __future__ import annotations

from ...number import fma, sigmoid, softplus


def loss(x, t, w, a, b):
    rest, weight = 1.0 - t, w * t
    term = fma(weight, softplus(-x), rest * softplus(x))
    return term, fma(rest, sigmoid(x), -(weight * sigmoid(-x)))
