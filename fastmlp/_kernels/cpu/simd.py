"""SIMD vector type for Numba kernels.

A vector holds as many float32 or float64 numbers as a register of the host (`host.LANES`). Each operation is defined
twice: as a Python function on NumPy arrays and as the LLVM instruction that it compiles to. The Python function is the
specification, and runs if jitting is disabled. No operation allows reassociation, so NaN stays NaN and results do not
depend on LLVM's optimizations.

Memory is addressed as ``(array, index)``. The index counts elements from the array's first one, for any shape, so no
wrap-around code is generated. Bounds are not checked.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .host import LANES
from .jit import lower

__all__ = [
    "absolute", "broadcast", "copy_sign", "element", "equal", "exponent", "first_lane", "fma", "full_like", "greater",
    "keep_first", "lane_max", "lane_sum", "lanes", "less", "load", "load_as", "load_tail", "negative", "polynomial",
    "reverse", "scale_by_power", "set_element", "square_root", "store", "store_tail", "where",
]  # fmt: skip

# Adding this value rounds a float to an integer in the low bits of the sum.
ROUNDING = {np.dtype(np.float32): 1.5 * 2.0**23, np.dtype(np.float64): 1.5 * 2.0**52}


def _memory(a: np.ndarray, i: int, count: int) -> np.ndarray:
    """Return a view of ``count`` elements of memory from element ``i`` on, as seen by a load."""
    return np.lib.stride_tricks.as_strided(a, shape=(int(i) + count,), strides=(a.itemsize,))[int(i) :]


# ----------------------------------------------------------------------------- loads and stores


def load(a: np.ndarray, i: int) -> np.ndarray:
    """Load elements ``i .. i + lanes - 1``."""
    return _memory(a, i, LANES[a.itemsize]).copy()


def load_as(a: np.ndarray, i: int, like: np.ndarray) -> np.ndarray:
    """Load a vector of ``like``'s dtype from element ``i`` on, with a cast; ``a`` holds uint8 or floats."""
    return _memory(a, i, LANES[like.itemsize]).astype(like.dtype)


def load_tail(a: np.ndarray, i: int, count: int) -> np.ndarray:
    """Load elements ``i .. i + count - 1``, followed by zeros, without access to memory after them."""
    out = np.zeros(LANES[a.itemsize], a.dtype)
    out[:count] = _memory(a, i, count)
    return out


def store(a: np.ndarray, i: int, v: np.ndarray) -> None:
    """Store all lanes to elements ``i ..``."""
    _memory(a, i, len(v))[:] = v


def store_tail(a: np.ndarray, i: int, v: np.ndarray, count: int) -> None:
    """Store the first ``count`` lanes only."""
    _memory(a, i, count)[:] = v[:count]


def broadcast(a: np.ndarray, i: int) -> np.ndarray:
    """Return element ``i`` in every lane."""
    return np.full(LANES[a.itemsize], _memory(a, i, 1)[0], a.dtype)


def element(a: np.ndarray, i: int) -> Any:
    """Return element ``i`` as a scalar."""
    return _memory(a, i, 1)[0]


def set_element(a: np.ndarray, i: int, x: float) -> None:
    """Set element ``i`` to a scalar."""
    _memory(a, i, 1)[0] = x


def lanes(a: np.ndarray) -> int:
    """Return the number of elements of ``a`` in a vector, a compile-time constant."""
    return LANES[a.itemsize]


def full_like(v: np.ndarray, x: float) -> np.ndarray:
    """Return ``x`` in every lane of a vector of ``v``'s type."""
    return np.full_like(v, x)


def negative(v: np.ndarray) -> np.ndarray:
    """Return -v, with the sign bit flipped, so that the negative of 0 is -0."""
    return -v


def absolute(v: np.ndarray) -> np.ndarray:
    """Return |v|."""
    return np.abs(v)


def copy_sign(v: np.ndarray, sign: np.ndarray) -> np.ndarray:
    """Return |v| with the sign bit of ``sign``."""
    return np.copysign(v, sign)


def square_root(v: np.ndarray) -> np.ndarray:
    """Return sqrt(v), correctly rounded."""
    return np.sqrt(v)


def fma(a: np.ndarray, b: Any, c: Any) -> np.ndarray:
    """Return a * b + c with one rounding (without JIT: by the next wider type); b and c may be scalars."""
    wide = np.float64 if a.dtype == np.float32 else np.longdouble
    b, c = (np.asarray(x, a.dtype).astype(wide) for x in (b, c))
    return (a.astype(wide) * b + c).astype(a.dtype)


def polynomial(v: np.ndarray, coefficients: tuple[float, ...]) -> np.ndarray:
    """Return coefficients[0] + v * (coefficients[1] + v * (...)), with one fma per step."""
    result = full_like(v, coefficients[-1])
    for c in coefficients[-2::-1]:
        result = fma(v, result, c)
    return result


def scale_by_power(v: np.ndarray, rounded: np.ndarray) -> np.ndarray:
    """Return v * 2**n, where ``rounded`` is n + `ROUNDING`; n is from -2 to +2 times the exponent's bias.

    The scaling uses two factors. Results below the normal range are then rounded once, and 2**128 is infinite.
    """
    n = np.nan_to_num(rounded - v.dtype.type(ROUNDING[v.dtype]), posinf=0, neginf=0).astype(int)
    return np.ldexp(np.ldexp(v, n >> 1), n - (n >> 1))


def exponent(v: np.ndarray) -> np.ndarray:
    """Return n such that v / 2**n is from 1 / sqrt(2) to below sqrt(2), for positive normal v."""
    bits = v.view(f"i{v.itemsize}")
    return ((bits - v.dtype.type(INVERSE_ROOT).view(bits.dtype)) >> np.finfo(v.dtype).nmant).astype(v.dtype)


INVERSE_ROOT = 0.5**0.5


def less(a: np.ndarray, b: Any) -> np.ndarray:
    """Return a < b; false where either is NaN."""
    return a < b


def greater(a: np.ndarray, b: Any) -> np.ndarray:
    """Return a > b; false where either is NaN."""
    return a > b


def equal(a: np.ndarray, b: Any) -> np.ndarray:
    """Return a == b; false where either is NaN."""
    return a == b


def where(mask: np.ndarray, a: np.ndarray, b: Any) -> np.ndarray:
    """Return ``a`` where the mask is set, else ``b``."""
    return np.where(mask, a, b).astype(np.asarray(a).dtype)


def keep_first(v: np.ndarray, count: int, x: float) -> np.ndarray:
    """Return the first ``count`` lanes of v, with ``x`` in the others."""
    return np.where(np.arange(len(v)) < count, v, v.dtype.type(x))


def first_lane(v: np.ndarray) -> Any:
    """Return the first lane as a scalar."""
    return v[0]


def reverse(v: np.ndarray) -> np.ndarray:
    """Reverse the order of the lanes."""
    return v[::-1].copy()


def lane_sum(v: np.ndarray) -> Any:
    """Return the sum of the lanes by repeated halving: lane i is added to lane i + half."""
    while len(v) > 1:
        v = v[: len(v) // 2] + v[len(v) // 2 :]
    return v[0]


def lane_max(v: np.ndarray) -> Any:
    """Return the largest lane by the same tree as `lane_sum`; of a pair without a greater lane, the right one."""
    while len(v) > 1:
        left, right = v[: len(v) // 2], v[len(v) // 2 :]
        v = np.where(left > right, left, right)
    return v[0]


lower("simd")
