"""Sums in blocks against those of NumPy."""

from __future__ import annotations

import numpy as np
import pytest

from fastmlp._common import sums
from tests.checks import assert_matches


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
@pytest.mark.parametrize("rows", [1, 7, 128, 1000, 4103])
def test_the_bits_are_those_of_numpy(monkeypatch, rows, dtype):
    monkeypatch.setattr(sums, "_BLOCK", 128)  # NumPy's own blocks
    numbers = (1e3 * np.random.default_rng(rows).normal(3, 1, rows)).astype(dtype)
    exact = numbers.astype(np.float64)
    assert_matches(exact.sum(), sums.sum_in_blocks(rows, lambda part: exact[part]))
    assert_matches(exact[:, None].mean(axis=0), np.array([sums.sum_in_blocks(rows, lambda part: exact[part]) / rows]))
    assert_matches(numbers.std(dtype=np.float64), sums.deviation(numbers))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("scale", [1.0, 3e19])
def test_deviations_are_computed_in_float64(dtype, scale):
    """Squares of 3e19 are beyond float32."""
    values = (np.random.default_rng(0).normal(size=1000) * scale).astype(dtype)
    assert sums.deviation(values) == pytest.approx(values.astype(np.float64).std(), rel=1e-14)
