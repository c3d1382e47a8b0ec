"""Elementary functions on vectors of `simd`, within 2 ulp of the exact result for both dtypes.

All functions are branch-free: every lane is computed in the same way. A result therefore depends on its argument only,
not on the lane, the neighboring lanes or the vector width. NaN stays NaN, results below the normal range lose bits
gradually, and results above it are infinite.

The coefficients are in `polynomials`.
"""

from __future__ import annotations

import numpy as np

from ..polynomials import CDF_SHIFT, FLOAT32, FLOAT64, Constants
from .jit import inline, lower
from .simd import (
    absolute,
    copy_sign,
    exponent,
    first_lane,
    fma,
    full_like,
    greater,
    less,
    load_tail,
    negative,
    polynomial,
    scale_by_power,
    where,
)  # fmt: skip

__all__ = [
    "constants", "cos_half_pi", "exp", "expm1", "log", "log1p_unit", "normal_cdf", "normal_pdf", "scalar_log",
    "sigmoid", "sin_half_pi", "tanh",
]  # fmt: skip


def constants(v: np.ndarray) -> Constants:
    """Return the constants of ``v``'s dtype; everything else below is independent of the dtype."""
    return FLOAT32 if v.dtype == np.float32 else FLOAT64


# ----------------------------------------------------------------------------- the exponentials
# e^x = 2^n e^r with n = round(x / ln 2) and r = x - n ln 2. Then e^r = 1 + r + curve(r). Functions in which the 1
# cancels keep r as a separate term.


@inline
def _reduce(v: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return n in the form for `scale_by_power`, n, and v - n * ln2_high (which is exact)."""
    c = constants(v)
    rounded = fma(v, c.log2e, c.rounding)
    n = rounded - c.rounding
    return rounded, n, fma(n, -c.ln2_high, v)


@inline
def _reduce_limited(v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return n in the form for `scale_by_power`, and r, for e^v with any v."""
    c = constants(v)
    # Comparisons with NaN are false, so NaN is not clamped.
    v = where(greater(v, c.exp_highest), full_like(v, c.exp_highest), v)
    v = where(less(v, c.exp_lowest), full_like(v, c.exp_lowest), v)
    rounded, n, r = _reduce(v)
    return rounded, fma(n, -c.ln2_low, r)


@inline
def _curve(r: np.ndarray) -> np.ndarray:
    """Return e^r - 1 - r = r^2 q(r) for |r| <= ln(2) / 2."""
    return r * r * polynomial(r, constants(r).exp)


@inline
def exp(v: np.ndarray) -> np.ndarray:
    """Return e^v."""
    rounded, r = _reduce_limited(v)
    slope = fma(r, polynomial(r, constants(v).exp), 1.0)
    return scale_by_power(fma(r, slope, 1.0), rounded)


@inline
def expm1(v: np.ndarray) -> np.ndarray:
    """Return e^v - 1 = 2 (s (r + curve(r)) + (s - 1/2)) with s = 2^(n-1), which is finite where e^v is."""
    rounded, r = _reduce_limited(v)
    s = scale_by_power(full_like(v, 0.5), rounded)
    y = fma(s, _curve(r), fma(s, r, s - 0.5)) * 2.0
    # For tiny v, s * r would lose the sign of zero and the last bit of denormal numbers.
    return where(less(absolute(v), constants(v).identity), v, y)


@inline
def tanh(v: np.ndarray) -> np.ndarray:
    """Return tanh v = v + v^3 p(v^2) near 0, elsewhere sign(v) (1 - 2 / (e^(2|v|) + 1))."""
    a = absolute(v)
    square = a * a
    near = fma(a * square, polynomial(square, constants(v).tanh), a)
    far = full_like(v, 1.0) - full_like(v, 2.0) / (exp(a + a) + 1.0)
    return copy_sign(where(less(a, 0.625), near, far), v)


@inline
def sigmoid(v: np.ndarray) -> np.ndarray:
    """Return 1 / (1 + e^-v), computed from e = e^-|v| as 1 / (1 + e) or e / (1 + e)."""
    one = full_like(v, 1.0)
    e = exp(negative(absolute(v)))
    numerator = where(less(v, 0.0), e, one)
    below = one + e
    lost = e - (below - one)  # rounding error of the sum
    inverse = one / below
    y = numerator * inverse
    # Correct the quotient by its remainder: the accumulated rounding error would exceed 1 ulp.
    return fma(fma(negative(y), lost, fma(negative(y), below, numerator)), inverse, y)


@inline
def log1p_unit(v: np.ndarray) -> np.ndarray:
    """Return log(1 + v) for v in [0, 1].

    With s = f / (2 + f): log(1 + f) = f - (f^2/2 - s (f^2/2 + s^2 p(s^2))). For v up to 1/2, f is v. Above 1/2, where
    v - 1 is exact, f is (v - 1) / 2 and log 2 is added, which keeps s small.
    """
    c = constants(v)
    upper = greater(v, 0.5)
    f = where(upper, (v - 1.0) * 0.5, v)
    rest = _log_rest(f)
    return where(upper, (f - (rest - c.ln2_low)) + c.ln2_high, f - rest)


@inline
def _log_rest(f: np.ndarray) -> np.ndarray:
    """Return f - log(1 + f)."""
    s = f / (f + 2.0)
    z = s * s
    half_square = f * f * 0.5
    return fma(negative(s), fma(z, polynomial(z, constants(f).log1p), half_square), half_square)


@inline
def log(v: np.ndarray) -> np.ndarray:
    """Return log v = n log 2 + log(v / 2^n) for positive normal v, with v / 2^n near 1."""
    c = constants(v)
    n = exponent(v)
    f = scale_by_power(v, full_like(v, c.rounding) - n) - 1.0
    return fma(n, c.ln2_high, f - fma(n, -c.ln2_low, _log_rest(f)))


@inline
def scalar_log(x, a):
    """Return log x for a positive normal or infinite number x of the dtype of the array ``a``.

    The logarithm of the C library differs between systems.
    """
    v = full_like(load_tail(a, 0, 0), x)
    return first_lane(where(less(v, np.inf), log(v), v))


# ------------------------------------------------------------------------------- sine and cosine


@inline
def sin_half_pi(v: np.ndarray) -> np.ndarray:
    """Return sin(pi v / 2) for |v| <= 1/2."""
    c = constants(v)
    z = v * v
    return fma(v * z, polynomial(z, c.sin), v * c.half_pi)


@inline
def cos_half_pi(v: np.ndarray) -> np.ndarray:
    """Return cos(pi v / 2) for |v| <= 1/2."""
    z = v * v
    return fma(z, polynomial(z, constants(v).cos), 1.0)


# ------------------------------------------------------------------------ the normal distribution


@inline
def _gaussian(a: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return n in the form for `scale_by_power`, r and a tiny d, with e^(-a^2/2) = 2^n e^r (1 + d)."""
    scaled = a * -0.5
    high = a * scaled
    low = fma(a, scaled, negative(high))  # rounding error of the exponent, and so a relative error of the result
    rounded, n, r = _reduce(high)
    return rounded, r, fma(n, -constants(a).ln2_low, low)


@inline
def _limited(v: np.ndarray) -> np.ndarray:
    """Return |v|, clamped to the limit at which the density vanishes."""
    limit = constants(v).normal_limit
    a = absolute(v)
    return where(greater(a, limit), full_like(v, limit), a)


@inline
def normal_pdf(v: np.ndarray) -> np.ndarray:
    """Return the density of the standard normal distribution: e^(-v^2/2) / sqrt(2 pi)."""
    rounded, r, d = _gaussian(_limited(v))
    tail = r + _curve(r)
    peak = full_like(v, constants(v).pdf_peak)
    return scale_by_power(fma(peak, fma(d, tail + 1.0, tail), peak), rounded)


@inline
def normal_cdf(v: np.ndarray) -> np.ndarray:
    """Return Phi(v) = erfc(-v / sqrt 2) / 2.

    The tail beyond |v| = a is e^(-a^2/2) g(t) / (a + k) with t = (a - k) / (a + k). For negative v, the result is the
    tail; for positive v, the result is 1 minus the tail.
    """
    c = constants(v)
    a = _limited(v)
    rounded, r, d = _gaussian(a)
    below = a + CDF_SHIFT
    lost = a - (below - CDF_SHIFT)  # rounding error of the sum
    inverse = full_like(v, 1.0) / below
    # Relative error of the inverse, which t and the result would inherit several times over.
    error = fma(negative(inverse), lost, fma(negative(inverse), below, 1.0))
    t = fma(inverse * error, -2.0 * CDF_SHIFT, fma(inverse, -2.0 * CDF_SHIFT, 1.0))
    # The last step of g(t) and the quotient, each with its rounding error.
    center = full_like(v, c.normal_center)
    slope = polynomial(t, c.normal_slope)
    series = fma(t, slope, center)
    series_lost = fma(t, slope, center - series)
    factor = series * inverse
    factor_lost = fma(series_lost, inverse, fma(series, inverse, negative(factor)))
    # Sum of the terms of factor * e^r, smallest first, to limit the rounding error.
    curve = _curve(r)
    y = fma(factor * (r + curve + 1.0), error + d, factor_lost)
    y = fma(factor, r, fma(factor, curve, y)) + factor
    outward = scale_by_power(y, rounded)
    return where(greater(v, 0.0), full_like(v, 1.0) - outward, outward)


lower("vecmath")
