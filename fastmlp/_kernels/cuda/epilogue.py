"""Epilogues of the persistent kernel's operations: activation of results, activation gradient of gradients."""

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
    """Return a device function that dispatches on an activation's number in ``kinds``: h (which=0) or h' (which=1)."""
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
    def derivative(number, x, y, a):
        return last(x, y, a) if number == count else rest(number, x, y, a)

    return derivative


class Epilogue(NamedTuple):
    """Epilogue of an operation: output location, activation, destination of the gradient."""

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
    """Return f(on, epilogue, i, v) that stores the pre-activation v and its activation at element i."""
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
    """Return f(on, epilogue, i, v) that stores v in G: the gradient of output element i, times the derivative."""
    derivative = choose(kinds, dtype, 1)

    @device
    def write(on, epilogue, i, v):
        if epilogue.activation >= 0:
            after = on.work[U(epilogue.y) + U(i)]
            before = on.work[U(epilogue.pre) + U(i)] if epilogue.pre >= 0 else after
            v = v * derivative(epilogue.activation, before, after, epilogue.alpha)
        on.work[U(epilogue.g) + U(i)] = v

    return write
