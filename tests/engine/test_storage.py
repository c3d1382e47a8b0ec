"""Copies between arrays and panels by native code: those of `panels.pack` and `panels.unpack`."""

from __future__ import annotations

import numpy as np
import pytest

from fastmlp._kernels.cpu import panels
from fastmlp._kernels.cpu.host import LANES
from fastmlp.engine.native import has_native, native

pytestmark = pytest.mark.skipif(not has_native(), reason="the package was installed without a C compiler")


def layouts(array):
    """The same numbers in other memory."""
    yield array
    yield np.asfortranarray(array)
    yield np.repeat(array, 3, -1)[..., ::3]
    yield array[::-1].copy()[::-1]


@pytest.mark.parametrize("shape", [(1,), (7,), (16,), (37,), (1, 1), (3, 5), (8, 16), (17, 40), (33, 9)])
def test_copies(shape, dtype, rng):
    values, lanes = rng.normal(size=shape).astype(dtype), LANES[dtype.itemsize]
    for transposed in (False, True) if len(shape) == 2 else (False,):
        matrix = values.reshape(1, -1) if len(shape) == 1 else values.T if transposed else values
        rows = len(matrix) + 2
        ref, comp = (np.zeros(5 + panels.size(rows, matrix.shape[1], dtype), dtype) for _ in range(2))
        panels.pack(matrix, ref, 5, rows)
        places = np.array([[5, rows, transposed, *(*shape, -1)[:2]]])
        for array in layouts(values):
            comp[:] = 0
            assert native.copy_panels([array], comp, places, lanes, False)
            np.testing.assert_array_equal(comp, ref)
        for array in layouts(np.zeros(shape, dtype)):
            assert native.copy_panels([array], comp, places, lanes, True)
            np.testing.assert_array_equal(array, values)


def test_arrays_that_do_not_fit_are_left_to_numpy(dtype):
    flat, places = np.zeros(64, dtype), np.array([[0, 4, True, 3, 4], [32, 1, False, 3, -1]])
    weight, bias = np.ones((3, 4), dtype), np.ones(3, dtype)
    fixed = weight.copy()
    fixed.flags.writeable = False
    other = np.float64 if dtype == np.float32 else np.float32
    for arrays, unpack in [
        ([weight, np.ones(4, dtype)], False), ([weight.T, bias], False), ([bias, weight], False),
        ([weight, bias.astype(other)], False), ([weight, bias.astype(dtype.newbyteorder())], False),
        ([weight, [1, 2, 3]], False), ([fixed, bias], True),
    ]:  # fmt: skip
        assert not native.copy_panels(arrays, flat, places, 4, unpack)
    assert not flat.any()
    assert native.copy_panels([fixed, bias], flat, places, 4, False) and flat.any()
