"""The vocabulary of `formulas`: functions of a number, with their meaning in NumPy.

A formula is a function of numbers. The backend that compiles it decides what a number is: a SIMD vector of the CPU, the
number of one thread on a GPU, a C expression; here it is an array. Beside these functions a formula has ``+ - * /``,
``-x`` and comparisons by ``<`` and ``>`` (false where either side is NaN). Constants are written as floats (``1.0``),
so that each backend can take them in the number's own dtype.
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
    """``value`` as a number like x."""
    return np.full_like(x, value)


def where(mask: Any, a: Any, b: Any) -> Any:
    """``a`` where the comparison holds, else ``b``; ``a`` is a number, not a constant (see `full_like`)."""
    return np.where(mask, a, b).astype(np.asarray(a).dtype)


def fma(a: Any, b: Any, c: Any) -> Any:
    """a b + c, with one rounding where the hardware can."""
    return a * b + c


def absolute(x: Any) -> Any:
    """|x|."""
    return np.abs(x)


def copy_sign(x: Any, sign: Any) -> Any:
    """|x| with the sign bit of ``sign``."""
    return np.copysign(x, sign)


def clamp(x: Any, bound: Any) -> Any:
    """x, not beyond +-bound; NaN stays."""
    return np.clip(x, -bound, bound)


def square_root(x: Any) -> Any:
    """sqrt(x)."""
    return np.sqrt(x)


def exp(x: Any) -> Any:
    """e^x."""
    return np.exp(x)


def expm1(x: Any) -> Any:
    """e^x - 1, without its cancellation."""
    return np.expm1(x)


def log(x: Any) -> Any:
    """Natural logarithm."""
    return np.log(x)


def log1p_unit(x: Any) -> Any:
    """log(1 + x) for x from 0 to 1."""
    return np.log1p(x)


def tanh(x: Any) -> Any:
    """Hyperbolic tangent."""
    return np.tanh(x)


def sigmoid(x: Any) -> Any:
    """1 / (1 + e^-x), which does not overflow."""
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1, e) / (1 + e)


def softplus(x: Any) -> Any:
    """log(1 + e^x), which does not overflow."""
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def normal_cdf(x: Any) -> Any:
    """Normal distribution function."""
    return (0.5 * _erfc(-x.astype(np.float64) / math.sqrt(2))).astype(x.dtype)


def normal_pdf(x: Any) -> Any:
    """Density of the normal distribution."""
    return np.exp(-0.5 * x * x) / x.dtype.type(math.sqrt(2 * math.pi))
