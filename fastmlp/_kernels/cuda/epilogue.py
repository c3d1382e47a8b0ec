"""What an operation of the persistent kernel leaves behind: results by its activation, gradients by its slope."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np

from .elementwise import functions
from .jit import device
from .table import ACTIVATION, ALPHA, PRE, G, Y
from .tiles import U

__all__ = ["Epilogue", "activation", "choose", "epilogue_of", "through"]


@functools.cache
def choose(kinds, dtype, which):
    """h or h' of the activation of a number, of those that a model has."""
    T = np.dtype(dtype).type
    if not kinds:
        one = T(1)
        return device(lambda number, x, a: x) if which == 0 else device(lambda number, x, y, a: one)
    last, rest = functions(kinds[-1], np.dtype(dtype))[which], choose(kinds[:-1], dtype, which)
    count = len(kinds) - 1
    if which == 0:

        @device
        def h(number, x, a):
            return last(x, a) if number == count else rest(number, x, a)

        return h

    @device
    def slope(number, x, y, a):
        return last(x, y, a) if number == count else rest(number, x, y, a)

    return slope


class Epilogue(NamedTuple):
    """What an operation leaves behind: where, by which activation, and where the gradient goes."""

    pre: Any
    y: Any
    g: Any
    activation: Any
    alpha: Any


@device
def epilogue_of(on, o):
    return Epilogue(on.ops[o, PRE], on.ops[o, Y], on.ops[o, G], on.ops[o, ACTIVATION], on.numbers[o, ALPHA])


@functools.cache
def activation(kinds, dtype):
    """f(on, epilogue, i, v): write v, the value before an activation, and its activation to element i."""
    h = choose(kinds, dtype, 0)

    @device
    def finish(on, epilogue, i, v):
        if epilogue.pre >= 0:
            on.work[U(epilogue.pre) + U(i)] = v
        if epilogue.activation >= 0:
            v = h(epilogue.activation, v, epilogue.alpha)
        on.work[U(epilogue.y) + U(i)] = v

    return finish


@functools.cache
def through(kinds, dtype):
    """f(on, epilogue, i, v): v, a gradient with respect to element i of what an operation gave, to its G."""
    slope = choose(kinds, dtype, 1)

    @device
    def write(on, epilogue, i, v):
        if epilogue.activation >= 0:
            after = on.work[U(epilogue.y) + U(i)]
            before = on.work[U(epilogue.pre) + U(i)] if epilogue.pre >= 0 else after
            v = v * slope(epilogue.activation, before, after, epilogue.alpha)
        on.work[U(epilogue.g) + U(i)] = v

    return write
