"""The optimizers' formulas on a stretch of a parameter, as functions that the engine calls by address.

f(work, weights, table, numbers, gradient, at, size): ``table`` is the parameter's row of params, ``numbers`` the
step's row of hyper, work[gradient ..] the gradient of elements at .. at + size of the parameter.
"""

from __future__ import annotations

from numba import carray

from .jit import addressed, inline
from .simd import lanes, load, store
from .updates import adagrad_rule, adam_rule, rmsprop_rule, sgd_rule

__all__ = ["RULES"]

_ALL = 1 << 48


@inline
def _part(weights, start, at, size):
    """Elements of one of the parameter's arrays; none where it has no such array."""
    return weights[start + at : start + at + size] if start >= 0 else weights[:0]


@addressed
def _sgd(work_p, weights_p, table_p, numbers_p, gradient, at, size):
    """numbers: lr, momentum, decay, nesterov."""
    work, weights = carray(work_p, _ALL), carray(weights_p, _ALL)
    table, n = carray(table_p, 4), carray(numbers_p, 4)
    velocity, param = _part(weights, table[1], at, size), _part(weights, table[0], at, size)
    sgd_rule(work[gradient : gradient + size], n[0], n[1], n[2], n[3] != 0.0, velocity, param)


@addressed
def _adam(work_p, weights_p, table_p, numbers_p, gradient, at, size):
    """numbers: lr, beta1, beta2, eps, decay, decoupled, the two corrections."""
    work, weights = carray(work_p, _ALL), carray(weights_p, _ALL)
    table, n = carray(table_p, 4), carray(numbers_p, 8)
    mean, square, param = (
        _part(weights, table[1], at, size), _part(weights, table[2], at, size), _part(weights, table[0], at, size)
    )  # fmt: skip
    grad = work[gradient : gradient + size]
    adam_rule(grad, n[0], n[1], n[2], n[3], n[4], n[5] != 0.0, n[6], n[7], mean, square, param)


@addressed
def _rmsprop(work_p, weights_p, table_p, numbers_p, gradient, at, size):
    """numbers: lr, alpha, eps, decay, momentum."""
    work, weights = carray(work_p, _ALL), carray(weights_p, _ALL)
    table, n = carray(table_p, 4), carray(numbers_p, 5)
    square, mean = _part(weights, table[1], at, size), _part(weights, table[2], at, size)
    velocity, param = _part(weights, table[3], at, size), _part(weights, table[0], at, size)
    rmsprop_rule(work[gradient : gradient + size], n[0], n[1], n[2], n[3], n[4], square, mean, velocity, param)


@addressed
def _adagrad(work_p, weights_p, table_p, numbers_p, gradient, at, size):
    """numbers: lr, eps, decay."""
    work, weights = carray(work_p, _ALL), carray(weights_p, _ALL)
    table, n = carray(table_p, 4), carray(numbers_p, 3)
    total, param = _part(weights, table[1], at, size), _part(weights, table[0], at, size)
    adagrad_rule(work[gradient : gradient + size], n[0], n[1], n[2], total, param)


@addressed
def _keep(work_p, weights_p, table_p, numbers_p, gradient, at, size):
    """The gradient itself, in the place of an optimizer's array."""
    work, weights = carray(work_p, _ALL), carray(weights_p, _ALL)
    start = carray(table_p, 4)[1] + at
    for i in range(0, size, lanes(work)):
        store(weights, start + i, load(work, gradient + i))


RULES = {"sgd": _sgd, "adam": _adam, "rmsprop": _rmsprop, "adagrad": _adagrad, "keep": _keep}
