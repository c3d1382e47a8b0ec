"""Optimizer updates on a part of a parameter, as functions that the engine calls by address.

Each function is f(work, weights, table, numbers, gradient, at, size). ``table`` is the parameter's row of params and
``numbers`` is the step's row of hyperparams. work[gradient ..] is the gradient of elements at .. at + size of the
parameter.
"""

from __future__ import annotations

import functools

from ..formulas.optimizers import MOST_NUMBERS, MOST_STATES
from .jit import carray, function_pointer, inline
from .updates import in_registers, updating

__all__ = ["update_rule"]

_ALL = 1 << 48


@inline
def _part(weights, start, at, size):
    """Return the elements of one of the parameter's arrays, or none if the array is absent."""
    return weights[start + at : start + at + size] if start >= 0 else weights[:0]


@functools.cache
def update_rule(kind):
    """Return the update function of an optimizer."""
    loop, rule = updating(kind)

    @function_pointer.made_with(kind)
    def update(work_p, weights_p, table_p, numbers_p, gradient, at, size):
        work, weights = carray(work_p, _ALL), carray(weights_p, _ALL)
        table, n = carray(table_p, 1 + MOST_STATES), in_registers(carray(numbers_p, MOST_NUMBERS))
        first, second = _part(weights, table[1], at, size), _part(weights, table[2], at, size)
        third, param = _part(weights, table[3], at, size), _part(weights, table[0], at, size)
        loop(rule, work[gradient : gradient + size], n, first, second, third, param)

    return update
