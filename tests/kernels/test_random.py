"""Philox on vectors against `philox4x32`, word for word; the lanes that a threshold keeps."""

from __future__ import annotations

import numba
import numpy as np
import pytest

from fastmlp._kernels.cpu.random import WORDS, keep_at_least, random_words
from fastmlp._kernels.cpu.simd import lanes, load, store
from fastmlp._kernels.philox import philox4x32

GUARD = 3


@numba.njit
def write_words(a, at, block, row, step, last, key0, key1):
    random_words(a, at, block, row, step, last, key0, key1)


@numba.njit
def keep(x, words, threshold, out):
    for i in range(0, out.size, lanes(out)):
        store(out, i, keep_at_least(load(x, i), words, i, threshold))


@pytest.mark.parametrize("jitted", [True, False])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("block", "row", "step", "last", "seed"),
    [(0, 0, 0, 0, 0), (8, 3, 70_000, 3 << 24 | 2, 42), (2**32 - 8, 2**32 - 1, 2**32 - 1, 2**32 - 1, 2**64 - 1)],
)
def test_words_are_those_of_the_reference(block, row, step, last, seed, dtype, jitted):
    ref = np.stack(philox4x32((np.arange(block, block + WORDS // 4), row, step, last), seed), axis=1).ravel()
    a = np.full(WORDS + 2 * GUARD, 7.0, dtype)
    write = write_words if jitted else write_words.py_func
    write(a, GUARD, block, row, step, last, seed & 0xFFFFFFFF, seed >> 32)
    comp = a[GUARD:-GUARD].view(f"u{a.itemsize}")
    np.testing.assert_array_equal(ref, comp)
    assert (a[:GUARD] == 7).all() and (a[-GUARD:] == 7).all()


@pytest.mark.parametrize("jitted", [True, False])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("threshold", [0, 1, 2**31 - 1, 2**31, 3 * 2**30, 2**32 - 1])
def test_lanes_from_the_threshold_on_are_kept(threshold, dtype, jitted):
    x = np.arange(1, WORDS + 1, dtype=dtype)
    words = np.zeros(WORDS, dtype)
    integers = words.view(f"u{words.itemsize}")
    integers[:] = np.random.default_rng(0).integers(0, 2**32, WORDS)
    integers[:4] = [0, threshold, max(threshold, 1) - 1, 2**32 - 1]
    x[5], x[6] = np.inf, np.nan
    ref = np.where(integers >= threshold, x, 0)
    comp = np.empty_like(x)
    (keep if jitted else keep.py_func)(x, words, threshold, comp)
    np.testing.assert_array_equal(ref, comp)
