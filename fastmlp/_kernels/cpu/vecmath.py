"""Elementary functions on vectors of `simd`, within 2 ulp of the exact result for both dtypes.

All of them are branch-free: every lane is computed in the same way, so that a result depends on
its argument only, not on its lane, its neighbours or the vector's width. NaN stays NaN, results
below the normal range lose bits gradually, and those above it are infinite.

The coefficients were fitted for this module by ``tools/fit_polynomials.py``, which prints them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numba.core import types
from numba.extending import overload

from .jit import inline
from .simd import (
    ROUNDING,
    VectorType,
    absolute,
    copy_sign,
    fma,
    full_like,
    greater,
    less,
    negative,
    polynomial,
    scale_by_power,
    where,
)  # fmt: skip

__all__ = ["exp", "expm1", "log1p_unit", "normal_cdf", "normal_pdf", "sigmoid", "tanh"]


class _Constants(NamedTuple):
    """The numbers of one dtype; polynomials with the lowest power first."""

    rounding: float
    log2e: float
    ln2_high: float  # of so few bits that the fused x - n * ln2_high is exact
    ln2_low: float
    exp_lowest: float  # e^x is 0 here
    exp_highest: float  # e^x is infinite here
    identity: float  # expm1(x) is x below
    normal_limit: float  # e^(-x^2 / 2) is 0 here, also after division by a normal number
    pdf_peak: float  # 1 / sqrt(2 pi)
    exp: tuple[float, ...]
    log1p: tuple[float, ...]
    tanh: tuple[float, ...]
    normal_center: float  # g(0) of the distribution function
    normal_slope: tuple[float, ...]  # (g(t) - g(0)) / t


_FLOAT32 = _Constants(
    rounding=ROUNDING[np.dtype(np.float32)],
    log2e=1.4426950216293335,
    ln2_high=0.6931471824645996,
    ln2_low=-1.9046542121259336e-09,
    exp_lowest=-104.0,
    exp_highest=89.0,
    identity=2.0**-25,
    normal_limit=14.5,
    pdf_peak=0.3989422917366028,
    exp=(0.4999999701976776, 0.16666541993618011, 0.041667528450489044, 0.008366692811250687, 0.00138621567748487),
    log1p=(0.6666695475578308, 0.39957305788993835, 0.3036912679672241),
    tanh=(-0.3333328068256378, 0.13331419229507446, -0.053738292306661606, 0.02063542976975441, -0.005701635032892227),
    normal_center=0.6914337277412415,
    normal_slope=(
        -0.386381059885025, 0.08013325184583664, 0.027837321162223816, -0.010564901866018772, -0.005640355870127678,
        0.000831298588309437, 0.0013694600202143192, 0.00023104940191842616, -0.00021549906523432583,
        -9.45679348660633e-05,
    ),
)  # fmt: skip

_FLOAT64 = _Constants(
    rounding=ROUNDING[np.dtype(np.float64)],
    log2e=1.4426950408889634,
    ln2_high=0.6931471805598903,
    ln2_low=5.497923018708371e-14,
    exp_lowest=-746.0,
    exp_highest=710.0,
    identity=2.0**-54,
    normal_limit=39.0,
    pdf_peak=0.3989422804014327,
    exp=(
        0.5000000000000006, 0.166666666666666, 0.04166666666657362, 0.008333333333383519, 0.0013888888932399315,
        0.00019841269731676298, 2.480150439420565e-05, 2.755739643193934e-06, 2.762635760774076e-07,
        2.5057264000887157e-08,
    ),
    log1p=(
        0.6666666666667287, 0.3999999999610431, 0.28571429402835674, 0.22222138021928645, 0.18186371988992064,
        0.1524992272807199, 0.15369955845355204,
    ),
    tanh=(
        -0.3333333333333285, 0.13333333333261696, -0.05396825393120126, 0.02186948757606972, -0.008863221014018957,
        0.0035919893245427805, -0.0014549598448376487, 0.0005863201152168961, -0.00022857197242785423,
        7.715357709509668e-05, -1.6077188444448463e-05,
    ),
    normal_center=0.6914337184072874,
    normal_slope=(
        -0.3863810608479399, 0.08013323879102721, 0.027837498619363747, -0.010562332387535801, -0.005642406278168549,
        0.0008118614118572968, 0.001375049302933534, 0.00028773617208117404, -0.00021266675309803313,
        -0.00016753315547393807, -2.6005144429862526e-05, 3.254954408620974e-05, 2.5978386192074282e-05,
        5.931780347784539e-06, -4.204719275089013e-06, -4.633662870654525e-06, -1.8804414358665783e-06,
        1.5736725224333086e-07, 8.450698500984176e-07, 6.486241981959335e-07, 1.1095877855764047e-07,
        -2.10672653592038e-07, -1.482777862903204e-07, -3.0132111192197e-10, 3.032712737309606e-08,
        8.28382938980958e-09,
    ),
)  # fmt: skip

_CDF_SHIFT = 2.25  # that of the fit


def _constants(v: np.ndarray) -> _Constants:
    """The constants of ``v``'s dtype: all that the functions below know of it."""
    return _FLOAT32 if v.dtype == np.float32 else _FLOAT64


@overload(_constants, jit_options={"forceinline": True}, strict=False)  # strict: annotations must agree too
def _constants_of_type(v: Any) -> Callable[[Any], _Constants] | None:
    if not isinstance(v, VectorType):
        return None
    chosen = _FLOAT32 if v.dtype == types.float32 else _FLOAT64
    return lambda v: chosen


# ----------------------------------------------------------------------------- the exponentials
# e^x = 2^n e^r with n = round(x / ln 2) and r = x - n ln 2. Then e^r = 1 + r + curve(r), of which r is
# kept apart where the 1 cancels.


@inline
def _reduce(v: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """n as `scale_by_power` takes it, n, and v - n * ln2_high (which is exact)."""
    c = _constants(v)
    rounded = fma(v, c.log2e, c.rounding)
    n = rounded - c.rounding
    return rounded, n, fma(n, -c.ln2_high, v)


@inline
def _reduce_limited(v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """n as `scale_by_power` takes it, and r, for e^v with any v."""
    c = _constants(v)
    # Comparisons with NaN are false, so that it passes.
    v = where(greater(v, c.exp_highest), full_like(v, c.exp_highest), v)
    v = where(less(v, c.exp_lowest), full_like(v, c.exp_lowest), v)
    rounded, n, r = _reduce(v)
    return rounded, fma(n, -c.ln2_low, r)


@inline
def _curve(r: np.ndarray) -> np.ndarray:
    """e^r - 1 - r = r^2 q(r) for |r| <= ln(2) / 2."""
    return r * r * polynomial(r, _constants(r).exp)


@inline
def exp(v: np.ndarray) -> np.ndarray:
    """e^v."""
    rounded, r = _reduce_limited(v)
    slope = fma(r, polynomial(r, _constants(v).exp), 1.0)
    return scale_by_power(fma(r, slope, 1.0), rounded)


@inline
def expm1(v: np.ndarray) -> np.ndarray:
    """e^v - 1 = 2 (s (r + curve(r)) + (s - 1/2)) with s = 2^(n-1), which is finite where e^v is."""
    rounded, r = _reduce_limited(v)
    s = scale_by_power(full_like(v, 0.5), rounded)
    y = fma(s, _curve(r), fma(s, r, s - 0.5)) * 2.0
    # s * r would lose the sign of zero and the last bit of denormal numbers.
    return where(less(absolute(v), _constants(v).identity), v, y)


@inline
def tanh(v: np.ndarray) -> np.ndarray:
    """tanh v = v + v^3 p(v^2) near 0, elsewhere sign(v) (1 - 2 / (e^(2|v|) + 1))."""
    a = absolute(v)
    square = a * a
    near = fma(a * square, polynomial(square, _constants(v).tanh), a)
    far = full_like(v, 1.0) - full_like(v, 2.0) / (exp(a + a) + 1.0)
    return copy_sign(where(less(a, 0.625), near, far), v)


@inline
def sigmoid(v: np.ndarray) -> np.ndarray:
    """1 / (1 + e^-v), from e = e^-|v| as 1 / (1 + e) or e / (1 + e)."""
    one = full_like(v, 1.0)
    e = exp(negative(absolute(v)))
    numerator = where(less(v, 0.0), e, one)
    below = one + e
    lost = e - (below - one)  # by the rounding of that sum
    inverse = one / below
    y = numerator * inverse
    # One step of the division's remainder: the roundings so far would add up to more than 1 ulp.
    return fma(fma(negative(y), lost, fma(negative(y), below, numerator)), inverse, y)


@inline
def log1p_unit(v: np.ndarray) -> np.ndarray:
    """log(1 + v) for v in [0, 1].

    With s = f / (2 + f): log(1 + f) = f - (f^2/2 - s (f^2/2 + s^2 p(s^2))). Above 1/2, from where on
    v - 1 is exact, f is (v - 1) / 2 and log 2 is added, so that s stays small.
    """
    c = _constants(v)
    upper = greater(v, 0.5)
    f = where(upper, (v - 1.0) * 0.5, v)
    s = f / (f + 2.0)
    z = s * s
    half_square = f * f * 0.5
    rest = fma(negative(s), fma(z, polynomial(z, c.log1p), half_square), half_square)
    return where(upper, (f - (rest - c.ln2_low)) + c.ln2_high, f - rest)


# ------------------------------------------------------------------------ the normal distribution


@inline
def _gaussian(a: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """n as `scale_by_power` takes it, r, and a tiny d, for e^(-a^2/2) = 2^n e^r (1 + d)."""
    scaled = a * -0.5
    high = a * scaled
    low = fma(a, scaled, negative(high))  # lost by rounding; as a share of the result it is a^2/2 times larger
    rounded, n, r = _reduce(high)
    return rounded, r, fma(n, -_constants(a).ln2_low, low)


@inline
def _limited(v: np.ndarray) -> np.ndarray:
    """|v|, not above where the density vanishes."""
    limit = _constants(v).normal_limit
    a = absolute(v)
    return where(greater(a, limit), full_like(v, limit), a)


@inline
def normal_pdf(v: np.ndarray) -> np.ndarray:
    """Density of the standard normal distribution: e^(-v^2/2) / sqrt(2 pi)."""
    rounded, r, d = _gaussian(_limited(v))
    tail = r + _curve(r)
    peak = full_like(v, _constants(v).pdf_peak)
    return scale_by_power(fma(peak, fma(d, tail + 1.0, tail), peak), rounded)


@inline
def normal_cdf(v: np.ndarray) -> np.ndarray:
    """Phi(v) = erfc(-v / sqrt 2) / 2.

    The tail from |v| = a outward is e^(-a^2/2) g(t) / (a + k) with t = (a - k) / (a + k); it is the
    result for negative v, and its distance from 1 for positive v.
    """
    c = _constants(v)
    a = _limited(v)
    rounded, r, d = _gaussian(a)
    below = a + _CDF_SHIFT
    lost = a - (below - _CDF_SHIFT)  # by the rounding of that sum
    inverse = full_like(v, 1.0) / below
    # The inverse is too small by this share, which t and the result would inherit several times over.
    error = fma(negative(inverse), lost, fma(negative(inverse), below, 1.0))
    t = fma(inverse * error, -2.0 * _CDF_SHIFT, fma(inverse, -2.0 * _CDF_SHIFT, 1.0))
    # The last step of g(t) and the quotient, each with what its rounding lost.
    center = full_like(v, c.normal_center)
    slope = polynomial(t, c.normal_slope)
    series = fma(t, slope, center)
    series_lost = fma(t, slope, center - series)
    factor = series * inverse
    factor_lost = fma(series_lost, inverse, fma(series, inverse, negative(factor)))
    # factor * e^r, the smallest terms first.
    curve = _curve(r)
    y = fma(factor * (r + curve + 1.0), error + d, factor_lost)
    y = fma(factor, r, fma(factor, curve, y)) + factor
    outward = scale_by_power(y, rounded)
    return where(greater(v, 0.0), full_like(v, 1.0) - outward, outward)
