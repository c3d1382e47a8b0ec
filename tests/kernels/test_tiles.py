"""Operations of tiles: the compiled ones give what their definitions in NumPy give."""

from __future__ import annotations

import numpy as np
import pytest
from checks import C, assert_matches, eps

from fastmlp._kernels.jitted.host import LANES
from fastmlp._kernels.jitted.jit import compiled_once
from fastmlp._kernels.jitted.tile import at_least, load_tile, multiply_add_row, new_tile, store_tile, strides


def row_of_panels(a, b, bias, lowest, out, k, width):
    """A row of three panels of two vectors."""
    sums = load_tile(new_tile(out, 3, 2), bias, 0, 2 * width, width)
    distances = strides(b, 2 * width * k)
    for p in range(k):
        sums = multiply_add_row(sums, a, p, distances, b, 2 * width * p)
    store_tile(at_least(sums, lowest), out, 0, 2 * width, width)


compiled = compiled_once(row_of_panels)


@pytest.mark.parametrize("k", [0, 1, 7])
@pytest.mark.parametrize("lowest", [0.0, -np.inf, 0.5])
def test_a_row_of_panels(k, lowest, dtype, rng):
    width = LANES[np.dtype(dtype).itemsize]
    a, b, bias = (rng.normal(size=size).astype(dtype) for size in (k, 6 * width * k, 6 * width))
    bias[0], bias[1], bias[2] = np.nan, np.inf, -np.inf
    ref, comp = np.zeros((2, 6 * width), dtype)
    row_of_panels(a, b, bias, lowest, ref, k, width)
    compiled(a, b, bias, lowest, comp, k, width)
    assert np.isnan(ref[0]) and ref[1] == np.inf and ref[2] == lowest
    # NumPy's definition rounds twice, in the next wider type first.
    assert_matches(ref, comp, C * eps(dtype) * (1 + k))
