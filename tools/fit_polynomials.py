"""Fit the polynomials of fastmlp/_kernels/polynomials.py and print them as its constants.

Each polynomial is a least-squares fit at Chebyshev nodes, which is close to the minimax one. Its
coefficients are rounded to the dtype one after the other, the lowest power first, and those that
are still free are fitted again each time, so that they make up for the rounding so far.

Run ``python tools/fit_polynomials.py`` (needs mpmath; a few seconds). The number behind ``error`` is
the largest error of the rounded polynomial, as a share of one half ulp of the function's result.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from mpmath import mp, mpf

mp.dps = 60
NODES = 96  # of the fit
GRID = 1500  # points at which the error is measured

HALF_LN2 = mp.log(2) / 2
CDF_SHIFT = 2.25  # k in t = (a - k) / (a + k), of few bits; a larger one takes fewer terms, and loses more to rounding


class Fit(NamedTuple):
    """What a polynomial p(y) approximates, where, and how much its error matters there."""

    function: Callable[[Any], Any]
    effect: Callable[[Any], Any]  # relative error of the result that an error of 1 in p(y) causes
    interval: Callable[[int], tuple[Any, Any]]  # by the dtype's bits
    degree: dict[int, int]


def exp_tail(r: Any) -> Any:
    """(e^r - 1 - r) / r^2."""
    return mp.expm1(r) / r**2 - 1 / r if abs(r) > mpf("1e-9") else mpf(1) / 2 + r / 6


def log_tail(z: Any) -> Any:
    """(log((1 + s) / (1 - s)) / s - 2) / s^2 with s^2 = z."""
    s = mp.sqrt(z)
    return (2 * mp.atanh(s) / s - 2) / z


def tanh_tail(z: Any) -> Any:
    """(tanh(x) / x - 1) / x^2 with x^2 = z."""
    x = mp.sqrt(z)
    return (mp.tanh(x) / x - 1) / z


def sin_tail(z: Any) -> Any:
    """(sin(pi f / 2) / f - pi / 2) / f^2 with f^2 = z."""
    f = mp.sqrt(z)
    return (mp.sin(mp.pi * f / 2) / f - mp.pi / 2) / z


def cos_tail(z: Any) -> Any:
    """(cos(pi f / 2) - 1) / f^2 with f^2 = z."""
    return (mp.cos(mp.pi * mp.sqrt(z) / 2) - 1) / z


def normal_tail(t: Any) -> Any:
    """(a + k) Phi(-a) e^(a^2/2) with a = k (1 + t) / (1 - t)."""
    a = CDF_SHIFT * (1 + t) / (1 - t)
    return (a + CDF_SHIFT) * mp.erfc(a / mp.sqrt(2)) / 2 * mp.exp(a * a / 2)


def shifted(a: Any) -> Any:
    return (mpf(a) - CDF_SHIFT) / (mpf(a) + CDF_SHIFT)


FITS = {
    # r is rounded before it is reduced, so that it may lie a little outside ln(2) / 2.
    "exp": Fit(
        exp_tail, lambda r: r**2 / mp.expm1(r) if r else mpf(0),
        lambda bits: (-HALF_LN2 * mpf("1.001"), HALF_LN2 * mpf("1.001")), {32: 4, 64: 9},
    ),
    "log1p": Fit(log_tail, lambda z: z / 2, lambda bits: (0, mpf("0.04")), {32: 2, 64: 6}),
    "tanh": Fit(tanh_tail, lambda z: z, lambda bits: (0, mpf("0.625") ** 2), {32: 4, 64: 10}),
    "sin": Fit(
        sin_tail, lambda z: z * mp.sqrt(z) / mp.sin(mp.pi * mp.sqrt(z) / 2), lambda bits: (0, mpf("0.25")),
        {32: 3, 64: 6},
    ),
    "cos": Fit(
        cos_tail, lambda z: z / mp.cos(mp.pi * mp.sqrt(z) / 2), lambda bits: (0, mpf("0.25")), {32: 3, 64: 6}
    ),
    "normal_cdf": Fit(
        normal_tail, lambda t: 1 / normal_tail(t),
        lambda bits: (-1, shifted({32: 14.5, 64: 39}[bits])), {32: 10, 64: 26},
    ),
}  # fmt: skip


def rounded(x: Any, bits: int) -> float:
    """The nearest number of the dtype (through the nearest double: that is off by no more than 2^-54 relative)."""
    return float(x) if bits == 64 else float(np.float32(float(x)))


def chebyshev(low: Any, high: Any, count: int) -> list[Any]:
    return [(low + high) / 2 + (high - low) / 2 * mp.cos(mp.pi * (2 * i + 1) / (2 * count)) for i in range(count)]


def fit(task: Fit, bits: int) -> tuple[list[float], float]:
    """The coefficients, lowest power first, and the error as printed."""
    low, high = task.interval(bits)
    nodes = chebyshev(mpf(low), mpf(high), NODES)
    weights = [task.effect(y) for y in nodes]
    residual = [weight * task.function(y) for weight, y in zip(weights, nodes)]
    powers = [[weight * y**j for weight, y in zip(weights, nodes)] for j in range(task.degree[bits] + 1)]
    gram = [[mp.fdot(a, b) for b in powers] for a in powers]

    coefficients: list[float] = []
    for j, power in enumerate(powers):
        right = mp.matrix([mp.fdot(other, residual) for other in powers[j:]])
        free = mp.lu_solve(mp.matrix([row[j:] for row in gram[j:]]), right)
        coefficients.append(rounded(free[0], bits))
        residual = [value - coefficients[-1] * term for value, term in zip(residual, power)]

    grid = chebyshev(mpf(low), mpf(high), GRID)
    error = max(
        abs(task.effect(y) * (mp.fsum(c * y**n for n, c in enumerate(coefficients)) - task.function(y))) for y in grid
    )
    return coefficients, float(error * 2 ** {32: 24, 64: 53}[bits])


def split(x: Any, bits: int, kept: int) -> tuple[float, float]:
    """x rounded to ``kept`` bits, and the rest."""
    unit = mpf(2) ** (mp.floor(mp.log(x, 2)) + 1 - kept)
    high = mp.nint(x / unit) * unit
    return float(high), rounded(x - high, bits)


def constants(bits: int) -> dict[str, float]:
    """The numbers that are no coefficients, by their names in the module."""
    # In double precision n takes 11 bits, and n * ln2_high is then exact by itself, so that the un-jitted
    # code also holds where no wider type gives it a true fma; single precision always has one.
    high, low = split(mp.log(2), bits, {32: 24, 64: 42}[bits])
    peak = rounded(1 / mp.sqrt(2 * mp.pi), bits)
    return {
        "log2e": rounded(1 / mp.log(2), bits), "ln2_high": high, "ln2_low": low, "pdf_peak": peak,
        "half_pi": rounded(mp.pi / 2, bits),
    }  # fmt: skip


def main() -> None:
    for bits in (32, 64):
        print(f"# float{bits}")
        for name, value in constants(bits).items():
            print(f"{name} = {value!r}")
        for name, task in FITS.items():
            coefficients, error = fit(task, bits)
            print(f"{name} = (  # error {error:.3f}")
            for c in coefficients:
                print(f"    {c!r},")
            print(")")


if __name__ == "__main__":
    main()
