"""Optimizer updates and gradient clipping on flat arrays; formulas as in `reference`.

An update is a single pass over its parameter: it reads the gradient once, and reads and writes the states and the
parameter once. The caller computes scalars that need a power or a root.
"""

from __future__ import annotations

import functools

import numpy as np

from ..formulas import find
from ..formulas.optimizers import MOST_NUMBERS
from .calls import call_update, callable_of, signature_of
from .declare import FLOAT, FLOATS, INT, VECTOR
from .elementwise import clamp, formula, load_some, store_some
from .jit import carray, function_pointer, inline, kernel
from .simd import element, fma, lanes, load_tail

__all__ = ["add_scaled", "clip", "optimizer_update", "scale", "sum_of_squares", "update_function", "update_of"]


@inline
def _state(a, i, count):
    """Load elements of a state, or zeros if the state is absent."""
    return load_some(a, i, count) if a.size > 0 else load_tail(a, 0, 0)


@inline
def _keep(a, i, v, count):
    if a.size > 0:
        store_some(a, i, v, count)


@inline
def _one(rule, grad, n, first, second, third, param, i, count):
    p, a = rule(load_some(grad, i, count), load_some(param, i, count), _state(first, i, count), n)
    _keep(first, i, a, count)
    store_some(param, i, p, count)


@inline
def _two(rule, grad, n, first, second, third, param, i, count):
    g, p = load_some(grad, i, count), load_some(param, i, count)
    p, a, b = rule(g, p, _state(first, i, count), _state(second, i, count), n)
    _keep(first, i, a, count)
    _keep(second, i, b, count)
    store_some(param, i, p, count)


@inline
def _three(rule, grad, n, first, second, third, param, i, count):
    g, p = load_some(grad, i, count), load_some(param, i, count)
    a, b, c = _state(first, i, count), _state(second, i, count), _state(third, i, count)
    p, a, b, c = rule(g, p, a, b, c, n)
    _keep(first, i, a, count)
    _keep(second, i, b, count)
    _keep(third, i, c, count)
    store_some(param, i, p, count)


@functools.cache
def _loop(states):
    vector = (_one, _two, _three)[states - 1]

    @inline
    def loop(rule, grad, n, first, second, third, param):
        # The last elements are not in the loop, which has no branch then.
        width = lanes(param)
        whole = param.size // width * width
        for i in range(0, whole, width):
            vector(rule, grad, n, first, second, third, param, i, width)
        if whole < param.size:
            vector(rule, grad, n, first, second, third, param, whole, param.size - whole)

    return loop


@inline
def _in_registers(n):
    """Return a step's numbers (MOST_NUMBERS,) as a tuple: stores to the states do not make the loop load them again."""
    return n[0], n[1], n[2], n[3], n[4], n[5], n[6], n[7]


@functools.cache
def update_function(kind):
    """Return the function by address of an optimizer, see `optimizer_update`."""
    loop, rule = _loop(len(find("optimizers", kind).STATES)), formula("optimizers", kind)["update"]

    @function_pointer.made_with(kind, arguments=signature_of("real", "float64", "real", "real", "real", "real"))
    def update(grad, numbers, first, second, third, param, size, count, size_of_1, size_of_2, size_of_3, size_of_param):
        loop(
            rule, carray(grad, size), _in_registers(carray(numbers, MOST_NUMBERS)), carray(first, size_of_1),
            carray(second, size_of_2), carray(third, size_of_3), carray(param, size),
        )  # fmt: skip

    return update


@functools.cache
def update_of(kind, itemsize):
    """Return the first argument of `optimizer_update` for an optimizer."""

    def python(grad, numbers, first, second, third, param):
        loop, rule = _loop(len(find("optimizers", kind).STATES)), formula("optimizers", kind)["update"]
        loop(rule, grad, _in_registers(numbers), first, second, third, param)

    return callable_of(update_function(kind), functools.partial(python), itemsize)


@kernel(INT, VECTOR, FLOATS, VECTOR, VECTOR, VECTOR, VECTOR)
def optimizer_update(function, grad, numbers, first, second, third, param):
    """Update a parameter and its states in place; ``numbers (MOST_NUMBERS,)`` are a step's, in float64.

    An absent state is an array of size 0. ``function`` is a result of `update_of`.
    """
    call_update(function, grad, numbers, first, second, third, param)


@kernel(VECTOR, result=FLOAT)
def sum_of_squares(grad):
    """Return the sum of the squares in float64, as four sums of every fourth element."""
    n = grad.size
    a, b, c, d = 0.0, 0.0, 0.0, 0.0
    for i in range(0, n - 3, 4):
        w, x, y, z = element(grad, i), element(grad, i + 1), element(grad, i + 2), element(grad, i + 3)
        a, b, c, d = a + np.float64(w) ** 2, b + np.float64(x) ** 2, c + np.float64(y) ** 2, d + np.float64(z) ** 2
    for i in range(n - n % 4, n):
        a += np.float64(element(grad, i)) ** 2
    return (a + b) + (c + d)


@kernel(VECTOR, FLOAT, VECTOR)
def scale(grad, factor, out):
    """Compute out = factor grad."""
    n, width = grad.size, lanes(grad)
    for i in range(0, n, width):
        count = min(width, n - i)
        store_some(out, i, load_some(grad, i, count) * factor, count)


@kernel(VECTOR, FLOAT, VECTOR)
def add_scaled(x, factor, out):
    """Compute out += factor x."""
    n, width = x.size, lanes(x)
    for i in range(0, n, width):
        count = min(width, n - i)
        store_some(out, i, fma(load_some(x, i, count), factor, load_some(out, i, count)), count)


@kernel(VECTOR, FLOAT, VECTOR)
def clip(grad, bound, out):
    """Clip grad to [-bound, bound]; NaN stays NaN."""
    n, width = grad.size, lanes(grad)
    for i in range(0, n, width):
        count = min(width, n - i)
        store_some(out, i, clamp(load_some(grad, i, count), bound), count)
