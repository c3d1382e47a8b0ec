"""Optimizer formulas for the persistent kernel, with a uniform signature for any number of states."""

from __future__ import annotations

import functools

import numpy as np

from ..formulas import find
from ..formulas.optimizers import MOST_STATES
from .jit import device
from .number import formula

__all__ = ["rule"]


@functools.cache
def rule(name, dtype):
    """Return the device functions (numbers, has, step) of an optimizer.

    numbers(on, h) returns a step's numbers as the tuple on.hyperparameters[h .. h + 8]. The parameter and up to three
    states of an element lie in consecutive planes; has(n) returns for each of the four whether it exists.
    step(g, n, w, a, b, c) returns the new values of the parameter and the states after a step with gradient g.
    """
    compiled = formula("optimizers", name, np.dtype(dtype), device)
    update, states = compiled["update"], len(find("optimizers", name).STATES)

    @device
    def numbers(on, h):
        n = on.hyperparameters
        return n[h], n[h + 1], n[h + 2], n[h + 3], n[h + 4], n[h + 5], n[h + 6], n[h + 7]

    return numbers, _has(compiled.get("kept"), states), _step(update, states)


def _has(kept, states):
    if kept is None:
        there = (True,) * (1 + states) + (False,) * (MOST_STATES - states)

        @device
        def has(n):
            return there

        return has

    @device
    def has_one(n):
        (first,) = kept(n)
        return True, first, False, False

    @device
    def has_two(n):
        first, second = kept(n)
        return True, first, second, False

    @device
    def has_three(n):
        first, second, third = kept(n)
        return True, first, second, third

    return (has_one, has_two, has_three)[states - 1]


def _step(update, states):
    @device
    def one(g, n, w, a, b, c):
        w, a = update(g, w, a, n)
        return w, a, b, c

    @device
    def two(g, n, w, a, b, c):
        w, a, b = update(g, w, a, b, n)
        return w, a, b, c

    @device
    def three(g, n, w, a, b, c):
        return update(g, w, a, b, c, n)

    return (one, two, three)[states - 1]
