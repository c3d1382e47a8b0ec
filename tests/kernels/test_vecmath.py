"""Accuracy, special values and reproducibility of the vector functions, compiled or not.

Run as a script with a file name, this module saves the results of all functions to that file. The tests run the script
for other vector widths and for uncompiled code, which are selected when fastmlp is imported.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import zlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mpmath import mp

import fastmlp
from fastmlp._kernels import polynomials
from fastmlp._kernels.jitted import vecmath
from fastmlp._kernels.jitted.host import LANES
from fastmlp._kernels.jitted.jit import inline
from fastmlp._kernels.jitted.simd import lanes, load, load_tail, store, store_tail

PRECISION = 160  # precision of the reference in bits
INF, NAN = np.inf, np.nan


def _sigmoid(x: Any) -> Any:
    return 1 / (1 + mp.exp(-x))


def _normal_cdf(x: Any) -> Any:
    limited = max(min(x, mp.mpf(100)), mp.mpf(-100))  # mpmath fails on huge arguments; beyond, all dtypes saturate
    return mp.erfc(-limited / mp.sqrt(2)) / 2


def _normal_pdf(x: Any) -> Any:
    return mp.exp(-x * x / 2) / mp.sqrt(2 * mp.pi)


REFERENCES: dict[str, Callable[[Any], Any]] = {
    "cos_half_pi": lambda x: mp.cos(mp.pi * x / 2),
    "exp": mp.exp,
    "expm1": mp.expm1,
    "log": mp.log,
    "log1p_unit": mp.log1p,
    "normal_cdf": _normal_cdf,
    "normal_pdf": _normal_pdf,
    "sigmoid": _sigmoid,
    "sin_half_pi": lambda x: mp.sin(mp.pi * x / 2),
    "tanh": mp.tanh,
}
# Results at these arguments, in order; zeros are compared with their sign.
SPECIAL_ARGUMENTS = (0.0, -0.0, INF, -INF, NAN)
SPECIAL_RESULTS = {
    "exp": (1.0, 1.0, INF, 0.0, NAN),
    "expm1": (0.0, -0.0, INF, -1.0, NAN),
    "normal_cdf": (0.5, 0.5, 1.0, 0.0, NAN),
    "sigmoid": (0.5, 0.5, 1.0, 0.0, NAN),
    "tanh": (0.0, -0.0, 1.0, -1.0, NAN),
}
DTYPES = (np.float32, np.float64)


def _driver(function: Callable[..., Any]) -> Callable[..., None]:
    def run(x: np.ndarray, out: np.ndarray) -> None:
        step = lanes(x)
        rest = x.size % step
        for i in range(0, x.size - rest, step):
            store(out, i, function(load(x, i)))
        if rest:
            store_tail(out, x.size - rest, function(load_tail(x, x.size - rest, rest)), rest)

    return inline(run)  # inlined, because Numba cannot reuse a cached closure in another process


DRIVERS = {name: _driver(getattr(vecmath, name)) for name in REFERENCES}


def evaluate(name: str, x: np.ndarray) -> np.ndarray:
    out = np.full_like(x, 77)
    with np.errstate(all="ignore"):  # without compilation, NumPy warns about infinite results
        DRIVERS[name](x, out)
    return out


def points(name: str, dtype: type) -> np.ndarray:
    """Arguments over the whole range: dense where formulas change, random, and of every magnitude."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    info = np.finfo(dtype)
    tiny = float(info.smallest_subnormal)
    magnitudes = np.exp2(rng.uniform(info.minexp - info.nmant, 0, 200))
    if name == "log1p_unit":
        middle = 0.5 + np.linspace(-1e-3, 1e-3, 100)
        return np.concatenate([rng.random(500), np.linspace(0, 1, 300), middle, magnitudes, [tiny]]).astype(dtype)
    if name.endswith("half_pi"):
        return np.concatenate(
            [rng.uniform(-0.5, 0.5, 800), np.linspace(-0.5, 0.5, 401), magnitudes[magnitudes < 0.5]]
        ).astype(dtype)
    if name == "log":
        steps = np.exp2(np.arange(-30, 30) + 0.5)  # points where the exponent n changes
        near = 1 + np.concatenate([-magnitudes, magnitudes])
        parts = [
            np.exp2(rng.uniform(info.minexp + 1, info.maxexp - 1, 500)), np.linspace(0.5, 2, 500), near[near > 0.5],
            (steps[:, None] * (1 + np.linspace(-1e-6, 1e-6, 5))).ravel(), [float(info.tiny), float(info.max)],
        ]  # fmt: skip
        return np.concatenate(parts).astype(dtype)
    largest = -np.log(tiny)
    low = np.log(float(info.tiny))
    halves_of_ln2 = np.arange(-9, 10, 2) * np.log(2) / 2  # points where n in exp(x) = 2^n exp(r) changes
    parts = [
        rng.normal(0, 1.5, 500), np.linspace(-1, 1, 400), rng.uniform(-40, 40, 300),
        rng.uniform(-largest, largest, 300),
        magnitudes, -magnitudes, 0.625 + np.linspace(-1e-3, 1e-3, 50), np.linspace(-largest - 1, low + 1, 200),
        np.log(float(info.max)) + np.linspace(-0.1, 0.05, 100), -np.sqrt(2 * np.linspace(-low - 10, largest + 1, 200)),
        (halves_of_ln2[:, None] * (1 + np.linspace(-1e-6, 1e-6, 9))).ravel(),
        [tiny, -tiny, float(info.tiny), float(info.max), -float(info.max)],
    ]  # fmt: skip
    return np.concatenate(parts).astype(dtype)


def units(exact: Any, dtype: type) -> Any:
    """The distance of neighboring numbers of the dtype at ``exact``."""
    info = np.finfo(dtype)
    return mp.ldexp(1, max(mp.frexp(exact)[1] - 1, int(info.minexp)) - info.nmant)


def ulp_error(got: float, exact: Any, dtype: type) -> float:
    if np.isinf(got):
        return 0.0 if exact >= float(np.finfo(dtype).max) else INF
    return float(abs(mp.mpf(float(got)) - exact) / units(exact, dtype))


@cache
def worst(name: str, dtype: type, step: int) -> tuple[float, float]:
    """The largest error in ulp at each ``step``-th argument, and its argument."""
    x = points(name, dtype)[::step].copy()
    with mp.workprec(PRECISION):
        errors = [ulp_error(y, REFERENCES[name](mp.mpf(float(value))), dtype) for y, value in zip(evaluate(name, x), x)]
    at = int(np.argmax(errors))
    return errors[at], float(x[at])


@pytest.mark.parametrize("step", [8, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", REFERENCES)
def test_error_is_at_most_two_ulp(name: str, dtype: type, step: int) -> None:
    error, argument = worst(name, dtype, step)
    assert error <= 2.0, f"{error:.3f} ulp at {argument!r}"


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", SPECIAL_RESULTS)
def test_special_values(name: str, dtype: type) -> None:
    got = evaluate(name, np.array(SPECIAL_ARGUMENTS, dtype))
    expected = np.array(SPECIAL_RESULTS[name], dtype)
    np.testing.assert_array_equal(got, expected)
    number = ~np.isnan(expected)
    np.testing.assert_array_equal(np.signbit(got)[number], np.signbit(expected)[number])


@pytest.mark.parametrize("dtype", DTYPES)
def test_special_values_of_the_density_and_the_logarithm(dtype: type) -> None:
    got = evaluate("normal_pdf", np.array(SPECIAL_ARGUMENTS, dtype))
    peak = dtype(1 / np.sqrt(2 * np.pi))
    np.testing.assert_array_equal(got, np.array([peak, peak, 0, 0, NAN], dtype))
    got = evaluate("log1p_unit", np.array([0.0, -0.0, 1.0, NAN], dtype))
    np.testing.assert_array_equal(got, np.array([0, 0, np.log(2), NAN], dtype))
    assert np.signbit(got[1]) and not np.signbit(got[0])


@pytest.mark.parametrize("dtype", DTYPES)
def test_results_leave_the_normal_range_gradually(dtype: type) -> None:
    info = np.finfo(dtype)
    edge = float(np.log(float(info.smallest_subnormal)))
    x = np.array([edge + 0.01, edge - 1.0, np.log(float(info.max)) - 1e-4, np.log(float(info.max)) + 1e-4], dtype)
    last, zero, finite, infinite = evaluate("exp", x)
    assert last == info.smallest_subnormal and zero == 0 and np.isfinite(finite) and infinite == INF
    assert np.isfinite(evaluate("expm1", x)[2]) and evaluate("expm1", x)[3] == INF
    tail = evaluate("normal_cdf", np.array([-14.1 if dtype is np.float32 else -38.4], dtype))
    assert 0 < tail[0] < info.tiny


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ("tanh", "normal_pdf", "sin_half_pi", "cos_half_pi"))
def test_symmetry(name: str, dtype: type) -> None:
    x = points(name, dtype)
    sign = -1 if name in ("tanh", "sin_half_pi") else 1
    np.testing.assert_array_equal(evaluate(name, -x), sign * evaluate(name, x))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", REFERENCES)
def test_bits_do_not_depend_on_the_position(name: str, dtype: type) -> None:
    x = points(name, dtype)[:300]
    expected = evaluate(name, x)
    for shift in (1, 2, 3, 5, 11):
        rolled = np.concatenate([x[shift:], np.array([NAN, INF, -1e9], dtype), x[:shift]])  # changes neighbors, too
        got = evaluate(name, rolled)
        again = np.concatenate([got[-shift:], got[: x.size - shift]])
        assert again.tobytes() == expected.tobytes()
    for size in range(1, 34):
        assert evaluate(name, x[:size].copy()).tobytes() == expected[:size].tobytes()


def _everything() -> dict[str, np.ndarray]:
    return {f"{name}-{np.dtype(dtype)}": evaluate(name, points(name, dtype)) for name in REFERENCES for dtype in DTYPES}


def _elsewhere(folder: Path, **environment: str) -> dict[str, np.ndarray]:
    """What another process computes with these environment variables."""
    out = folder / "results.npz"
    path = os.pathsep.join([str(Path(fastmlp.__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-W", "error", __file__, str(out)]
    subprocess.run(command, check=True, timeout=300, env={**os.environ, **environment, "PYTHONPATH": path})
    with np.load(out) as stored:
        return dict(stored)


@pytest.mark.slow
@pytest.mark.parametrize("width", [width for width in ("4", "8", "16") if width != str(LANES[4])])
def test_bits_do_not_depend_on_the_vector_width(width: str, tmp_path: Path) -> None:
    other = _elsewhere(tmp_path, FASTMLP_LANES=width)
    for key, here in _everything().items():
        assert other[key].tobytes() == here.tobytes(), key


@pytest.mark.slow
def test_unjitted_code_agrees(tmp_path: Path) -> None:
    other = _elsewhere(tmp_path, NUMBA_DISABLE_JIT="1")
    for key, here in _everything().items():
        if here.dtype == np.float64 and np.finfo(np.longdouble).nmant < 63:
            continue  # without compilation, `simd.fma` is exact only if a wider type exists
        there = other[key]
        finite = np.isfinite(here)
        np.testing.assert_array_equal(there[~finite], here[~finite], err_msg=key)
        with np.errstate(under="ignore"):
            distance = np.abs(there[finite] - here[finite]) / np.spacing(np.abs(here[finite]))
        assert distance.max() <= 2.0, key


@pytest.mark.slow
def test_constants_are_those_of_the_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    path = Path(__file__).parents[2] / "tools" / "fit_polynomials.py"
    if not path.exists():
        pytest.skip("the tools are not part of this installation")
    spec = importlib.util.spec_from_file_location("fit_polynomials", path)
    assert spec is not None and spec.loader is not None
    tool = importlib.util.module_from_spec(spec)
    with mp.workdps(15):  # the tool sets the precision for itself
        spec.loader.exec_module(tool)
        monkeypatch.setattr(tool, "GRID", 50)
        with mp.workdps(60):
            for bits, table in ((32, polynomials.FLOAT32), (64, polynomials.FLOAT64)):
                for name, value in tool.constants(bits).items():
                    assert getattr(table, name) == value, name
                for name, task in tool.FITS.items():
                    expected = (
                        (table.normal_center, *table.normal_slope) if name == "normal_cdf" else getattr(table, name)
                    )
                    assert tuple(tool.fit(task, bits)[0]) == expected, name


if __name__ == "__main__":
    np.savez(sys.argv[1], **_everything())
