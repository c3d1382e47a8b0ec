"""Optimizer updates and what clipping needs, on flat arrays; formulas as in `reference`.

Each runs once over its parameter: the gradient is read once, the state and the parameter are read
and written once. Scalars that need a power or a root are computed by the caller.
"""

from __future__ import annotations

import numpy as np

from .elementwise import clamp, load_some, store_some
from .jit import inline, kernel
from .simd import element, fma, lanes, square_root

__all__ = [
    "adagrad", "adagrad_rule", "adam", "adam_rule", "add_scaled", "clip", "rmsprop", "rmsprop_rule", "scale", "sgd",
    "sgd_rule", "sum_of_squares",
]  # fmt: skip


@inline
def _decayed(grad, param, i, count, weight_decay):
    g = load_some(grad, i, count)
    if weight_decay != 0.0:
        g = fma(load_some(param, i, count), weight_decay, g)
    return g


@inline
def sgd_rule(grad, lr, momentum, weight_decay, nesterov, velocity, param):
    """An empty velocity is none."""
    n, width = param.size, lanes(param)
    for i in range(0, n, width):
        count = min(width, n - i)
        g = _decayed(grad, param, i, count, weight_decay)
        if velocity.size > 0:
            v = fma(load_some(velocity, i, count), momentum, g)
            store_some(velocity, i, v, count)
            g = fma(v, momentum, g) if nesterov else v
        store_some(param, i, fma(g, -lr, load_some(param, i, count)), count)


@kernel
def sgd(grad, lr, momentum, weight_decay, nesterov, velocity, param):
    sgd_rule(grad, lr, momentum, weight_decay, nesterov, velocity, param)


@inline
def adam_rule(grad, lr, beta1, beta2, eps, weight_decay, decoupled, correction1, correction2, mean, square, param):
    """correction1 = 1 - beta1^t; correction2 = sqrt(1 - beta2^t)."""
    n, width = param.size, lanes(param)
    shrink = 1.0 - lr * weight_decay if decoupled else 1.0
    inverse = 1.0 / correction2  # a second division would cost as much as all the rest
    for i in range(0, n, width):
        count = min(width, n - i)
        g = _decayed(grad, param, i, count, 0.0 if decoupled else weight_decay)
        m = load_some(mean, i, count)
        m = fma(g - m, 1.0 - beta1, m)
        s = load_some(square, i, count) * beta2
        s = fma(g * g, 1.0 - beta2, s)
        store_some(mean, i, m, count)
        store_some(square, i, s, count)
        root = fma(square_root(s), inverse, eps)
        p = load_some(param, i, count) * shrink
        store_some(param, i, fma(m / root, -(lr / correction1), p), count)


@kernel
def adam(grad, lr, beta1, beta2, eps, weight_decay, decoupled, correction1, correction2, mean, square, param):
    adam_rule(grad, lr, beta1, beta2, eps, weight_decay, decoupled, correction1, correction2, mean, square, param)


@inline
def rmsprop_rule(grad, lr, decay, eps, weight_decay, momentum, square, mean, velocity, param):
    """An empty mean (of the centred form) or velocity is none."""
    n, width = param.size, lanes(param)
    for i in range(0, n, width):
        count = min(width, n - i)
        g = _decayed(grad, param, i, count, weight_decay)
        s = load_some(square, i, count) * decay
        s = fma(g * g, 1.0 - decay, s)
        store_some(square, i, s, count)
        variance = s
        if mean.size > 0:
            m = load_some(mean, i, count)
            m = fma(g - m, 1.0 - decay, m)
            store_some(mean, i, m, count)
            variance = s - m * m
        update = g / (square_root(variance) + eps)
        if velocity.size > 0:
            update = fma(load_some(velocity, i, count), momentum, update)
            store_some(velocity, i, update, count)
        store_some(param, i, fma(update, -lr, load_some(param, i, count)), count)


@kernel
def rmsprop(grad, lr, decay, eps, weight_decay, momentum, square, mean, velocity, param):
    rmsprop_rule(grad, lr, decay, eps, weight_decay, momentum, square, mean, velocity, param)


@inline
def adagrad_rule(grad, lr, eps, weight_decay, total, param):
    """total: the sum of all squares so far."""
    n, width = param.size, lanes(param)
    for i in range(0, n, width):
        count = min(width, n - i)
        g = _decayed(grad, param, i, count, weight_decay)
        s = fma(g, g, load_some(total, i, count))
        store_some(total, i, s, count)
        update = g / (square_root(s) + eps)
        store_some(param, i, fma(update, -lr, load_some(param, i, count)), count)


@kernel
def adagrad(grad, lr, eps, weight_decay, total, param):
    adagrad_rule(grad, lr, eps, weight_decay, total, param)


@kernel
def sum_of_squares(grad):
    """In float64, as four sums of every fourth element."""
    n = grad.size
    a, b, c, d = 0.0, 0.0, 0.0, 0.0
    for i in range(0, n - 3, 4):
        w, x, y, z = element(grad, i), element(grad, i + 1), element(grad, i + 2), element(grad, i + 3)
        a, b, c, d = a + np.float64(w) ** 2, b + np.float64(x) ** 2, c + np.float64(y) ** 2, d + np.float64(z) ** 2
    for i in range(n - n % 4, n):
        a += np.float64(element(grad, i)) ** 2
    return (a + b) + (c + d)


@kernel
def scale(grad, factor, out):
    """out = factor grad."""
    n, width = grad.size, lanes(grad)
    for i in range(0, n, width):
        count = min(width, n - i)
        store_some(out, i, load_some(grad, i, count) * factor, count)


@kernel
def add_scaled(x, factor, out):
    """out += factor x."""
    n, width = x.size, lanes(x)
    for i in range(0, n, width):
        count = min(width, n - i)
        store_some(out, i, fma(load_some(x, i, count), factor, load_some(out, i, count)), count)


@kernel
def clip(grad, bound, out):
    """out = grad, not beyond +-bound; NaN stays."""
    n, width = grad.size, lanes(grad)
    for i in range(0, n, width):
        count = min(width, n - i)
        store_some(out, i, clamp(load_some(grad, i, count), bound), count)
