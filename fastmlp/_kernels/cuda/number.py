"""Scalar device functions that implement the vocabulary of `formulas` in one dtype.

Constants have the same dtype, because one float64 constant promotes float32 arithmetic to float64.
"""

from __future__ import annotations

import functools
import math

from ..formulas import bind, find
from .jit import called

__all__ = ["formula", "vocabulary"]


@functools.cache
def vocabulary(dtype):
    """Return a dict from name to device function for scalars of this dtype."""
    T = dtype.type
    zero, half, one = T(0), T(0.5), T(1)
    root, density = T(math.sqrt(0.5)), T(1 / math.sqrt(2 * math.pi))

    def full_like(x, value):
        return value

    def where(mask, a, b):
        return a if mask else b

    def fma(a, b, c):
        return a * b + c  # contracted to an FMA by the compiler

    def absolute(x):
        return abs(x)

    def copy_sign(x, sign):
        return math.copysign(x, sign)

    def clamp(x, bound):
        return bound if x > bound else -bound if x < -bound else x

    def square_root(x):
        return math.sqrt(x)

    def exp(x):
        return math.exp(x)

    def expm1(x):
        return math.expm1(x)

    def log(x):
        return math.log(x)

    def log1p_unit(x):
        return math.log1p(x)

    def tanh(x):
        return math.tanh(x)

    def sigmoid(x):
        e = math.exp(-abs(x))  # never overflows
        return (one if x >= zero else e) / (one + e)

    def softplus(x):
        return (x if x > zero else zero) + math.log1p(math.exp(-abs(x)))

    def normal_cdf(x):
        return half * math.erfc(-x * root)

    def normal_pdf(x):
        return math.exp(-half * x * x) * density

    functions = (
        full_like, where, fma, absolute, copy_sign, clamp, square_root, exp, expm1, log, log1p_unit, tanh, sigmoid,
        softplus, normal_cdf, normal_pdf,
    )  # fmt: skip
    return {function.__name__: called(function) for function in functions}


@functools.cache
def formula(family, name, dtype, compiled=called):
    """Return the functions of a module of `formulas`, compiled for scalars of a dtype."""
    return bind(find(family, name), vocabulary(dtype), compiled, dtype.type)
