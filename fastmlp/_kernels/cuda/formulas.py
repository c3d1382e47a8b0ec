"""The optimizers' formulas for one element, as `reference` states them: of kernels by themselves and of whole steps."""

from __future__ import annotations

import math

from .jit import device

__all__ = ["adagrad", "adam", "rmsprop", "sgd"]


@device
def sgd(g, p, v, lr, momentum, decay, nesterov, has_velocity):
    """(p, v) after a step with gradient g."""
    g = g + decay * p
    if has_velocity:
        v = momentum * v + g
        g = g + momentum * v if nesterov else v
    return p - lr * g, v


@device
def adam(g, p, m, s, rate, blend1, beta2, blend2, eps, decay, shrink, unroot):
    """(p, m, s) after a step; ``rate`` and ``unroot`` hold the corrections, ``shrink`` a decay by itself."""
    p = p * shrink
    g = g + decay * p
    m = m + blend1 * (g - m)
    s = beta2 * s + blend2 * g * g
    return p - rate * (m / (math.sqrt(s) * unroot + eps)), m, s


@device
def rmsprop(g, p, s, m, v, lr, keep, blend, eps, decay, momentum, has_mean, has_velocity):
    """(p, s, m, v) after a step."""
    g = g + decay * p
    s = keep * s + blend * g * g
    variance = s
    if has_mean:
        m = m + blend * (g - m)
        variance = s - m * m
    update = g / (math.sqrt(variance) + eps)
    if has_velocity:
        v = momentum * v + update
        update = v
    return p - lr * update, s, m, v


@device
def adagrad(g, p, t, lr, eps, decay):
    """(p, t) after a step."""
    g = g + decay * p
    t = t + g * g
    return p - lr * (g / (math.sqrt(t) + eps)), t
