"""Losses that add up over the elements of a row, and their gradients; formulas as in `reference`."""

from __future__ import annotations

import math

from .elementwise import clamp, load_some, softplus, store_some
from .jit import inline, kernel
from .simd import (
    absolute,
    fma,
    full_like,
    greater,
    keep_first,
    lane_sum,
    lanes,
    less,
    load_tail,
    negative,
    where,
)  # fmt: skip
from .vecmath import exp, sigmoid, tanh

__all__ = [
    "BCE", "FUNCTIONS", "HUBER", "L1", "LOG_COSH", "MSE", "POISSON", "QUANTILE", "elementwise_loss", "elementwise_rows",
]  # fmt: skip

MSE, L1, HUBER, BCE, LOG_COSH, QUANTILE, POISSON = range(7)

_LOG_2 = math.log(2)


@inline
def _sign(v):
    one = full_like(v, 1.0)
    # v * 0 keeps a NaN, and is 0 at 0.
    return where(greater(v, 0.0), one, where(less(v, 0.0), negative(one), v * 0.0))


@inline
def _mse(x, t, p, delta):
    d = x - t
    return d * d, d + d


@inline
def _l1(x, t, p, delta):
    d = x - t
    return absolute(d), _sign(d)


@inline
def _huber(x, t, p, delta):
    d = x - t
    size = absolute(d)
    linear = (size - 0.5 * delta) * delta
    return where(greater(size, delta), linear, d * d * 0.5), clamp(d, delta)


@inline
def _bce(x, t, p, delta):
    rest, weight = 1.0 - t, p * t
    term = fma(weight, softplus(negative(x)), rest * softplus(x))
    return term, fma(rest, sigmoid(x), negative(weight * sigmoid(negative(x))))


@inline
def _log_cosh(x, t, p, delta):
    d = x - t
    # log cosh d = softplus(2 |d|) - |d| - log 2, and softplus(v) = v + log1p(e^-v).
    size = absolute(d)
    return softplus(size + size) - size - _LOG_2, tanh(d)


@inline
def _quantile(x, t, p, delta):
    d = t - x
    above, below = greater(d, 0.0), less(d, 0.0)
    slope = where(above, full_like(d, -delta), where(below, full_like(d, 1.0 - delta), d))
    return where(above, d * delta, d * (delta - 1.0)), slope


@inline
def _poisson(x, t, p, delta):
    rate = exp(x)
    return fma(t, negative(x), rate), rate - t


FUNCTIONS = {
    "mse": _mse, "l1": _l1, "huber": _huber, "bce": _bce, "log_cosh": _log_cosh, "quantile": _quantile,
    "poisson": _poisson,
}  # fmt: skip


@inline
def elementwise_rows(function, x, target, pos_weight, delta, row_scale, losses, dx):
    rows, columns = x.shape
    width = lanes(x)
    for r in range(rows):
        start = r * columns
        total = load_tail(x, start, 0)
        for c in range(0, columns, width):
            count = min(width, columns - c)
            v, t = load_some(x, start + c, count), load_some(target, start + c, count)
            if pos_weight.size > 0:
                p = load_some(pos_weight, c, count)
            else:
                p = full_like(v, 1.0)
            term, slope = function(v, t, p, delta)
            total = total + keep_first(term, count, 0.0)
            if dx.size > 0:
                store_some(dx, start + c, slope * row_scale[r], count)
        if losses.size > 0:
            losses[r] = row_scale[r] * lane_sum(total)


@kernel
def elementwise_loss(kind, x, target, pos_weight, delta, row_scale, losses, dx):
    """x, target, dx (N, O); row_scale, losses (N,); pos_weight (O,). Empty: pos_weight (ones), losses, dx."""
    if kind == MSE:
        elementwise_rows(_mse, x, target, pos_weight, delta, row_scale, losses, dx)
    elif kind == L1:
        elementwise_rows(_l1, x, target, pos_weight, delta, row_scale, losses, dx)
    elif kind == HUBER:
        elementwise_rows(_huber, x, target, pos_weight, delta, row_scale, losses, dx)
    elif kind == LOG_COSH:
        elementwise_rows(_log_cosh, x, target, pos_weight, delta, row_scale, losses, dx)
    elif kind == QUANTILE:
        elementwise_rows(_quantile, x, target, pos_weight, delta, row_scale, losses, dx)
    elif kind == POISSON:
        elementwise_rows(_poisson, x, target, pos_weight, delta, row_scale, losses, dx)
    else:
        elementwise_rows(_bce, x, target, pos_weight, delta, row_scale, losses, dx)
