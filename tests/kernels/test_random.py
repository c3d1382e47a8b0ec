"""Vectorized Philox against `philox4x32`, word for word, and its thresholds."""

from __future__ import annotations

import numba
import numpy as np
import pytest
from checks import C, assert_matches, eps

from fastmlp._common.philox import NOISE, normal_pairs, normals, philox4x32
from fastmlp._kernels.jitted.random import WORDS, keep_at_least, normal_pair, random_words, word_bits
from fastmlp._kernels.jitted.simd import lanes, load, store

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


@numba.njit
def write_normals(words, row, step, last, key0, key1, out):
    for block in range(0, out.size, WORDS):
        random_words(words, 0, block // 4, row, step, last, key0, key1)
        for i in range(0, WORDS // 2, lanes(out)):
            first, second = normal_pair(words, i)
            store(out, block + i, first)
            store(out, block + WORDS // 2 + i, second)


@numba.njit
def take_bits(words, low, count, out):
    for i in range(0, out.size, lanes(out)):
        store(out, i, word_bits(words, i, low, count))


@pytest.mark.parametrize("jitted", [True, False])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("low", "count"), [(0, 1), (8, 24), (8, 22), (30, 1), (31, 1), (3, 5)])
def test_bits_of_words(low, count, dtype, jitted):
    words, comp = np.zeros(WORDS, dtype), np.empty(WORDS, dtype)
    integers = words.view(f"u{words.itemsize}")
    integers[:] = np.random.default_rng(0).integers(0, 2**32, WORDS)
    integers[:2] = [0, 2**32 - 1]
    (take_bits if jitted else take_bits.py_func)(words, low, count, comp)
    np.testing.assert_array_equal((integers >> low) % (1 << count), comp)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_normals_are_those_of_the_reference(dtype):
    rows, columns, step, seed = 40, 8 * WORDS, 70_000, 2**63 + 5
    ref = normals(seed, step, rows, columns)
    comp = np.empty((rows, columns), dtype)
    for row in range(rows):
        write_normals(np.empty(WORDS, dtype), row, step, NOISE << 24, seed & 0xFFFFFFFF, seed >> 32, comp[row])
    # A number near 0 is a difference of two terms of the size of the radius, which is at most 5.77.
    radius = np.hypot(*np.moveaxis(ref.reshape(rows, -1, 2, WORDS // 2), 2, 0))
    bound = 2 * C * eps(dtype) * np.stack([radius, radius], axis=2).reshape(rows, columns)
    assert_matches(ref, comp, bound)


@numba.njit
def pairs_of(words, first, second):
    for i in range(0, WORDS // 2, lanes(words)):
        a, b = normal_pair(words, i)
        store(first, i, a)
        store(second, i, b)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_smallest_and_the_largest_words(dtype):
    words, first, second = np.zeros(WORDS, dtype), np.empty(WORDS // 2, dtype), np.empty(WORDS // 2, dtype)
    integers = words.view(f"u{words.itemsize}")
    integers[: WORDS // 2] = np.tile([0, 2**32 - 1], WORDS // 4)  # the largest radius, and radius 0
    integers[WORDS // 2 :] = np.repeat([0, 2**30 - 1, 2**31, 2**32 - 1], WORDS // 8)
    ref = normal_pairs(integers[: WORDS // 2], integers[WORDS // 2 :])
    pairs_of(words, first, second)
    bound = 2 * C * eps(dtype) * np.sqrt(2 * 24 * np.log(2))
    assert_matches(ref[0], first, bound)
    assert_matches(ref[1], second, bound)
