"""Matrix products on simulated tensor cores (fragment layouts of the PTX ISA): tf32, bf16, and float32 by six bf16.

Accumulators are float32, and sums are truncated.
"""

from __future__ import annotations

import numpy as np
import pytest
from checks import assert_matches, product_bound
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("numba_cuda")
pytest.importorskip("greenlet")

import simt
from simulated import REPLACED

from fastmlp._kernels.cuda import products, tensor, tiles
from fastmlp._kernels.cuda.table import DELTA, FORWARD, WEIGHTS
from fastmlp._kernels.cuda.tiles import NARROW, WIDE_TILES, Geometry

SMALL = Geometry(8, 2, 16)  # tiles of 16 x 16, two warps
PRECISIONS = ["bf16x6", "tf32", "bf16"]
KINDS = {"forward": FORWARD, "delta": DELTA, "weights": WEIGHTS}


def product(kind, precision, a, b, bias=None, geometry=SMALL):
    """A B (+ bias) of (M, K) and (K, N), given to the kernel as it lies for the kind."""
    out = np.full((a.shape[0], b.shape[1]), np.nan, np.float32)
    left = np.ascontiguousarray(a.T if kind == WEIGHTS else a).reshape(-1)
    right = np.ascontiguousarray(b.T if kind == FORWARD else b).reshape(-1)
    machine = simt.Machine([products, tiles, tensor], REPLACED)
    grid = (max(1, -(-out.shape[1] // geometry.tile)), max(1, -(-out.shape[0] // geometry.tile)))
    arguments = (left, right, a.shape[1], np.zeros(1, np.float32) if bias is None else bias, bias is not None, out)
    machine.run(products.tensor_kernel(kind, precision, geometry), grid, geometry.threads, arguments)
    return out


def factors(m, k, n, seed=0):
    generator = np.random.default_rng(seed)
    return [generator.standard_normal(shape).astype(np.float32) for shape in ((m, k), (k, n), (n,))]


@pytest.mark.slow
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=8, deadline=None)
@given(st.integers(1, 33), st.integers(1, 49), st.integers(1, 33), st.booleans())
def test_products(kind, precision, m, k, n, has_bias):
    a, b, bias = factors(m, k, n)
    comp = product(KINDS[kind], precision, a, b, bias if has_bias else None)
    a, b = a.astype(np.float64), b.astype(np.float64)
    bound = product_bound(a, b, precision) + product_bound(np.ones((m, 1)), np.abs(bias)[None], np.float32)
    assert_matches(a @ b + (bias if has_bias else 0), comp, bound)


@pytest.mark.sampled
@pytest.mark.parametrize("geometry", [SMALL, Geometry(8, 4, 16)], ids=["one fragment", "four fragments"])
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("m", "k", "n"), [(1, 1, 1), (15, 16, 17), (16, 17, 15), (17, 15, 16), (33, 32, 31)])
def test_small_integers_are_exact(kind, precision, geometry, m, k, n):
    """They need no rounding: each element has met just those that it belongs to."""
    a, b = (np.rint(8 * x).astype(np.float32) for x in factors(m, k, n)[:2])
    comp = product(KINDS[kind], precision, a, b, geometry=geometry)
    np.testing.assert_array_equal(comp, a.astype(np.float64) @ b)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_not_finite_stays_so(kind, precision):
    a, b, _ = factors(5, 7, 6)
    a[1, 2], a[2, 3], b[4, 5] = np.nan, np.inf, -np.inf
    a[3, 3], a[4, 2] = np.finfo(np.float32).max, 0
    exact = a.astype(np.float64)
    exact[3, 3] = np.inf  # the largest float32 rounds to infinity in tf32 and bf16
    with np.errstate(all="ignore"):
        ref = exact @ b
    comp = product(KINDS[kind], precision, a, b)
    special = ~np.isfinite(ref)
    if precision == "bf16x6":  # the remainder after an infinite bf16 part is NaN
        ref[special] = np.nan
    np.testing.assert_array_equal(comp[special], ref[special].astype(np.float32))
    assert np.isfinite(comp[~special]).all()


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("m", "k", "n"), [(48, 1, 48), (48, 2, 48), (16, 400, 16)])
def test_six_products_are_as_exact_as_float32(kind, m, k, n):
    """Also one alone, of which three of tf32 would lose 4 ulp, and sums that never cancel, of which much is cut off."""
    a, b = (1 + np.abs(x) % 1 for x in factors(m, k, n)[:2])
    comp, chain = product(KINDS[kind], "bf16x6", a, b), np.zeros((m, n), np.float32)
    for i in range(k):
        chain = (chain + a[:, i : i + 1].astype(np.float64) * b[i]).astype(np.float32)  # rounds once, as an FMA does
    a, b = a.astype(np.float64), b.astype(np.float64)
    assert_matches(a @ b, comp, product_bound(a, b, np.float32))
    if k > 2:
        assert np.abs(comp - a @ b).max() < np.abs(chain - a @ b).max()


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_six_products_in_wide_tiles(kind):
    """Of 4 x 4 fragments, as the wide tiles of GPUs have: the small products have a sum of their own."""
    a, b = (x.astype(np.float64) for x in factors(40, 20, 50)[:2])
    comp = product(KINDS[kind], "bf16x6", a.astype(np.float32), b.astype(np.float32), geometry=Geometry(8, 8, 16))
    assert_matches(a @ b, comp, product_bound(a, b, np.float32))


@pytest.mark.parametrize("precision", ["tf32", "bf16"])
def test_factors_are_rounded_to_the_nearest(precision):
    """Not cut off, which would make sums too small."""
    one_and = {"tf32": 2.0**-11, "bf16": 2.0**-8}[precision] * 1.5
    a = np.full((1, 8), 1 + one_and, np.float32)
    for kind in KINDS.values():
        comp = product(kind, precision, a, np.ones((8, 1), np.float32))
        assert comp[0, 0] == 8 * (1 + one_and / 1.5 * 2)


def of_slice(precision, geometry, along_inner, dtype="float32"):
    """f(row, k): where an element of a slice is in shared memory."""
    across, inner, turn = tensor.smem_layout(dtype, precision, geometry, along_inner)
    turn = getattr(turn, "py_func", turn)
    return lambda row, k: (row * across + k * inner) ^ int(turn(np.uint64(row), np.uint64(k)))


both_ways = pytest.mark.parametrize("along_inner", [True, False], ids=["along", "across"])
both_tiles = pytest.mark.parametrize("geometry", [NARROW, WIDE_TILES], ids=["narrow", "wide"])


@both_tiles
@pytest.mark.parametrize("precision", PRECISIONS)
@both_ways
def test_a_warp_finds_its_words_in_different_banks(precision, geometry, along_inner):
    """Of 4 bytes there are 32; 8 bytes at a time, which two inner steps side by side are, half a warp's."""
    place = of_slice(precision, geometry, along_inner)
    word = tensor.words[precision]
    for k in range(0, geometry.depth, 4 * word):
        places = [place(lane // 4, k + word * (lane % 4)) for lane in range(32)]
        if word == 2 and along_inner:
            assert all(place % 2 == 0 for place in places)
            for half in (places[:16], places[16:]):
                assert len({place // 2 % 16 for place in half}) == 16
        else:
            assert len({place % 32 for place in places}) == 32


@both_tiles
@both_ways
def test_eight_threads_find_16_bytes_each_in_different_banks(geometry, along_inner):
    """Threads side by side have four rows each, and the 32 banks are 128 bytes."""
    place = of_slice("float32", geometry, along_inner)
    for first in range(0, geometry.tile, 32):
        for k in range(0, geometry.depth, 4 if along_inner else 1):
            for e in range(4 if along_inner else 1):
                places = [place(first + 4 * thread + e, k) for thread in range(8)]
                assert all(place % 4 == 0 for place in places) and len({place // 4 % 8 for place in places}) == 8


ON_TENSOR_CORES = [SMALL, Geometry(8, 4, 16), NARROW, WIDE_TILES]
KINDS_OF_SLICES = [
    *((precision, "float32", geometry) for precision in PRECISIONS for geometry in ON_TENSOR_CORES),
    *(
        ("float32", dtype, geometry)
        for dtype in ("float32", "float64")
        for geometry in (*ON_TENSOR_CORES, Geometry(2, 4, 4), Geometry(2, 2, 2))
    ),
]


@both_tiles
@pytest.mark.parametrize("precision", ["float32", *PRECISIONS])
def test_shares_of_a_bias_meet_in_no_more_than_two_banks(precision, geometry):
    """A warp reads sixteen rows of two inner steps of a slice that lies across."""
    place, side = of_slice(precision, geometry, False), geometry.side
    for i in range(geometry.each):
        banks = [place(lane % side + i * side, lane // side) % 32 for lane in range(32)]
        assert max(map(banks.count, banks)) <= 2


@both_ways
@pytest.mark.parametrize(("precision", "dtype", "geometry"), KINDS_OF_SLICES)
def test_each_element_of_a_slice_has_its_place(precision, dtype, geometry, along_inner):
    """What is copied at once stays side by side."""
    place, some = of_slice(precision, geometry, along_inner, dtype), tiles.vector_of(dtype, geometry)
    rows, steps = np.mgrid[: geometry.tile, : geometry.depth]
    places = np.vectorize(place)(rows, steps)
    assert sorted(places.ravel()) == list(range(places.size))
    of_group = places.reshape(-1, some) if along_inner else places.T.reshape(-1, some)
    np.testing.assert_array_equal(of_group, of_group[:, :1] + np.arange(some))
    assert (of_group[:, 0] % some == 0).all()
