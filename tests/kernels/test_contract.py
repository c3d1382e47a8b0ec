"""All backends have the operations and signatures of the reference, and agree with it."""

from __future__ import annotations

import inspect
import os

import numpy as np
import pytest
from checks import C, assert_matches, eps, floor, linear_bound, product_bound
from compiled import COMPILED, SIMULATED, operations
from hypothesis import given, settings
from hypothesis import strategies as st

from fastmlp._kernels import get_backend, reference
from fastmlp._kernels.reference import ACTIVATIONS

OPERATIONS = [name for name, value in vars(reference).items() if inspect.isfunction(value) and not name.startswith("_")]
OPERATIONS = [name for name in OPERATIONS if getattr(reference, name).__module__ == reference.__name__]
OPERATIONS.remove("probability_floor")

# Sizes around the rows of a tile (6 or 12, then 4, 2, 1) and around one and two vectors of 4, 8 or 16 lanes.
INNER = 30 if SIMULATED else 300
EDGES = [1, 2, 3, 5, 6, 7, 8, 9, 11, 12, 13, 15, 16, 17, 25, 31, 32, 33, 40, 65]
widths = st.sampled_from(EDGES)
seeds = st.integers(0, 2**32 - 1)
dtypes = st.sampled_from([np.float32, np.float64])


def draw(rng, shape, dtype):
    """Numbers of order 1 that both dtypes hold exactly."""
    return rng.normal(size=shape).astype(np.float32).astype(dtype)


def wide(*arrays):
    return [a.astype(np.float64) for a in arrays]


@pytest.mark.parametrize("name", COMPILED)
def test_signatures_are_those_of_the_reference(name):
    backend = get_backend(name)
    for operation in OPERATIONS:
        ref = inspect.signature(getattr(reference, operation))
        comp = inspect.signature(getattr(backend, operation))
        assert list(comp.parameters) == list(ref.parameters), operation


@pytest.mark.parametrize("name", COMPILED)
@settings(deadline=None, max_examples=8 if SIMULATED else 60)
@given(n=widths, inputs=widths, outputs=widths, seed=seeds, dtype=dtypes, has_bias=st.booleans())
def test_linear_forward(name, n, inputs, outputs, seed, dtype, has_bias):
    rng = np.random.default_rng(seed)
    x, w, b = draw(rng, (n, inputs), dtype), draw(rng, (outputs, inputs), dtype), draw(rng, outputs, dtype)
    b = b if has_bias else None
    ref, comp = np.empty((n, outputs)), np.full((n, outputs), np.nan, dtype)
    reference.linear_forward(*wide(x, w), None if b is None else b.astype(np.float64), ref)
    operations(name).linear_forward(x, w, b, comp)
    assert_matches(ref, comp, linear_bound(*wide(x, w), b, dtype))


@pytest.mark.parametrize("name", COMPILED)
@settings(deadline=None, max_examples=8 if SIMULATED else 60)
@given(n=widths, inputs=widths, outputs=widths, seed=seeds, dtype=dtypes, need_dx=st.booleans())
def test_linear_backward(name, n, inputs, outputs, seed, dtype, need_dx):
    rng = np.random.default_rng(seed)
    x, w, dy = draw(rng, (n, inputs), dtype), draw(rng, (outputs, inputs), dtype), draw(rng, (n, outputs), dtype)
    ref = [np.empty_like(a, np.float64) for a in (x, w, dy[0])]
    comp = [np.full_like(a, np.nan) for a in (x, w, dy[0])]
    if not need_dx:
        ref[0] = comp[0] = None
    x64, w64, dy64 = wide(x, w, dy)
    reference.linear_backward(dy64, x64, w64, *ref)
    operations(name).linear_backward(dy, x, w, *comp)
    bounds = (
        product_bound(dy64, w64, dtype),
        product_bound(dy64.T, x64, dtype),
        product_bound(dy64.T, np.ones((n, 1)), dtype)[:, 0],
    )
    for r, c, bound in zip(ref, comp, bounds):
        if r is not None:
            assert_matches(r, c, bound)


@pytest.mark.parametrize("inner", [127, 128, 129] if SIMULATED else [127, 128, 129, 255, 256, 257, 513, 3072])
def test_linear_across_blocks_of_the_inner_dimension(compiled, dtype, rng, inner):
    x, w, b = draw(rng, (7, inner), dtype), draw(rng, (33, inner), dtype), draw(rng, 33, dtype)
    ref, comp = np.empty((7, 33)), np.empty((7, 33), dtype)
    reference.linear_forward(*wide(x, w, b), ref)
    compiled.linear_forward(x, w, b, comp)
    assert_matches(ref, comp, linear_bound(*wide(x, w, b), dtype))


def test_a_row_has_the_same_bits_in_any_batch(compiled, dtype, rng):
    """Full tiles, tails and batch 1 compute one chain of multiply-adds."""
    backend = compiled
    x, w, b = draw(rng, (29, INNER), dtype), draw(rng, (41, INNER), dtype), draw(rng, 41, dtype)
    ref = np.empty((29, 41), dtype)
    backend.linear_forward(x, w, b, ref)
    for size in (1, 2, 4, 5, 7, 13):
        comp = np.empty((size, 41), dtype)
        backend.linear_forward(x[:size], w, b, comp)
        assert comp.tobytes() == ref[:size].tobytes()


def test_no_rows_and_no_inner_dimension(compiled, dtype):
    backend = compiled
    out = np.empty((0, 3), dtype)
    backend.linear_forward(np.empty((0, 5), dtype), np.ones((3, 5), dtype), np.ones(3, dtype), out)
    dweight, dbias = np.full((3, 5), np.nan, dtype), np.full(3, np.nan, dtype)
    backend.linear_backward(out, np.empty((0, 5), dtype), np.ones((3, 5), dtype), None, dweight, dbias)
    assert not dweight.any() and not dbias.any()


def test_layouts_that_kernels_do_not_take_are_copied(compiled, dtype, rng):
    x, w = draw(rng, (10, 24), dtype), draw(rng, (9, 12), dtype)
    sliced, fortran = x[:, ::2], np.asfortranarray(w)
    frozen = sliced.copy()
    frozen.flags.writeable = False
    ref, backend = np.empty((10, 9), dtype), compiled
    backend.linear_forward(sliced.copy(), w, None, ref)
    for left, right in ((sliced, fortran), (frozen, w), (sliced, w)):
        comp = np.empty((10, 9), dtype)
        backend.linear_forward(left, right, None, comp)
        assert comp.tobytes() == ref.tobytes()


POINTS = np.concatenate([np.linspace(-12, 12, 193), [0.0, -0.0, 1e-30, -1e-30, 80.0, -80.0, 300.0, -300.0]])


def _exact(kind, alpha, x):
    """h and h' at x, by central formulas of the reference in float64."""
    y = np.empty_like(x)
    reference.activation_forward(kind, alpha, x, y)
    slope = np.empty_like(x)
    reference.activation_backward(kind, alpha, np.ones_like(x), x, y, slope)
    return y, slope


# In the simulator and without the JIT, formulas run as Python, which warns about the discarded branch of `where`.
AS_PYTHON = SIMULATED or os.environ.get("NUMBA_DISABLE_JIT", "0") != "0"
in_any_range = pytest.mark.filterwarnings("ignore:.*encountered in:RuntimeWarning" if AS_PYTHON else "error")


@in_any_range
@pytest.mark.parametrize("kind", ACTIVATIONS)
def test_activations(compiled, kind, dtype):
    backend, alpha = compiled, 0.7
    x = POINTS[None, :].astype(np.float32).astype(dtype)
    y, slope = _exact(kind, alpha, x.astype(np.float64))
    out, dx, dy = np.empty_like(x), np.empty_like(x), np.full_like(x, 1.5)
    backend.activation_forward(kind, alpha, x, out)
    # 2 ulp of the value plus the effect of 2 ulp of the argument.
    assert_matches(y, out, C * eps(dtype) * (np.abs(y) + np.abs(x * slope)) + floor(dtype), kind)
    backend.activation_backward(kind, alpha, dy, x, out, dx)
    # Derivatives are sums of terms of order 1 (such as Phi + x phi), so errors are measured relative to 1.
    assert_matches(1.5 * slope, dx, 1.5 * 2 * C * eps(dtype) * np.maximum(1, np.abs(slope)) + floor(dtype), kind)


@in_any_range
@pytest.mark.parametrize("kind", ACTIVATIONS)
def test_activations_keep_nan_and_take_infinities(compiled, kind, dtype):
    x = np.array([[np.nan, np.inf, -np.inf, *((600, -600) if SIMULATED else (1e12, -1e12))]], dtype)
    ref, out, slope = np.empty_like(x), np.empty_like(x), np.empty_like(x)
    with np.errstate(all="ignore"):  # NumPy warns about infinities
        reference.activation_forward(kind, 1.0, x, ref)
    compiled.activation_forward(kind, 1.0, x, out)
    assert np.isnan(ref[0, 0]) and not np.isnan(ref[0, 1])
    assert_matches(ref, out, C * eps(dtype) * np.abs(ref) + floor(dtype), kind)
    compiled.activation_backward(kind, 1.0, np.ones_like(x), x, out, slope)
    assert np.isfinite(slope[0, 3:]).all()


@pytest.mark.parametrize("kind", ACTIVATIONS)
def test_fused_bias_and_activation_has_the_bits_of_the_two_steps(compiled, kind, dtype, rng):
    backend = compiled
    x, w, b = draw(rng, (13, 30), dtype), draw(rng, (19, 30), dtype), draw(rng, 19, dtype)
    pre, ref = np.empty((13, 19), dtype), np.empty((13, 19), dtype)
    backend.linear_forward(x, w, b, pre)
    backend.activation_forward(kind, 0.3, pre, ref)
    fused_pre, comp, alone = np.empty_like(pre), np.empty_like(ref), np.empty_like(ref)
    backend.linear_activation_forward(x, w, b, kind, 0.3, fused_pre, comp)
    backend.linear_activation_forward(x, w, b, kind, 0.3, None, alone)
    assert comp.tobytes() == ref.tobytes() == alone.tobytes() and fused_pre.tobytes() == pre.tobytes()
