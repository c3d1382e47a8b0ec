"""Vocabulary of `formulas`: functions of a number, with their definition in NumPy.

A formula is a function of numbers. The backend that compiles the formula decides the type of a number: a SIMD vector
on the CPU, the number of one thread on a GPU, a C expression; here, a NumPy array. Besides these functions, a formula
uses ``+ - * /``, ``-x`` and comparisons by ``<`` and ``>`` (false where either side is NaN). Constants are written as
floats (``1.0``), so that each backend can convert them to the number's own dtype.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

__all__ = [
    "absolute", "clamp", "copy_sign", "exp", "expm1", "fma", "full_like", "log", "log1p_unit", "normal_cdf",
    "normal_pdf", "sigmoid", "softplus", "square_root", "tanh", "where",
]  # fmt: skip

_erfc = np.vectorize(math.erfc, otypes=[np.float64])


def full_like(x: Any, value: Any) -> Any:
    """Return ``value`` as a number of x's type."""
    return np.full_like(x, value)


def where(mask: Any, a: Any, b: Any) -> Any:
    """Return ``a`` where the comparison holds, else ``b``; ``a`` is a number, not a constant (see `full_like`)."""
    return np.where(mask, a, b).astype(np.asarray(a).dtype)


def fma(a: Any, b: Any, c: Any) -> Any:
    """Return a b + c, with one rounding where the hardware has a fused multiply-add."""
    return a * b + c


def absolute(x: Any) -> Any:
    """Return |x|."""
    return np.abs(x)


def copy_sign(x: Any, sign: Any) -> Any:
    """Return |x| with the sign bit of ``sign``."""
    return np.copysign(x, sign)


def clamp(x: Any, bound: Any) -> Any:
    """Clamp x to [-bound, bound]; NaN stays NaN."""
    return np.clip(x, -bound, bound)


def square_root(x: Any) -> Any:
    """Return sqrt(x)."""
    return np.sqrt(x)


def exp(x: Any) -> Any:
    """Return e^x."""
    return np.exp(x)


def expm1(x: Any) -> Any:
    """Return e^x - 1 without cancellation near 0."""
    return np.expm1(x)


def log(x: Any) -> Any:
    """Return the natural logarithm of x."""
    return np.log(x)


def log1p_unit(x: Any) -> Any:
    """Return log(1 + x) for x in [0, 1]."""
    return np.log1p(x)


def tanh(x: Any) -> Any:
    """Return the hyperbolic tangent of x."""
    return np.tanh(x)


def sigmoid(x: Any) -> Any:
    """Return 1 / (1 + e^-x) without overflow."""
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1, e) / (1 + e)


def softplus(x: Any) -> Any:
    """Return log(1 + e^x) without overflow."""
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def normal_cdf(x: Any) -> Any:
    """Return the cumulative distribution function of the standard normal distribution at x."""
    return (0.5 * _erfc(-x.astype(np.float64) / math.sqrt(2))).astype(x.dtype)


def normal_pdf(x: Any) -> Any:
    """Return the density of the standard normal distribution at x."""
    return np.exp(-0.5 * x * x) / x.dtype.type(math.sqrt(2 * math.pi))
