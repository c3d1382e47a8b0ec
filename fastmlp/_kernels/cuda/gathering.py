"""Gathering of a batch's features: rows of the data, scaled, stored contiguously in ``work``.

Products then load the features like any other matrix. The next batch is gathered while the weights of the current step
are updated.
"""

from __future__ import annotations

import functools

import numba
import numpy as np

from .assembly import load4, store4
from .jit import device
from .runtime import cuda
from .table import GATHER_MEAN, GATHER_SCALE, IN
from .tiles import U

__all__ = ["gathering"]


@functools.cache
def gathering(dtype, geometry):
    """Return f(on, s, first, rows, x, row, column) that gathers the TILE x TILE tile at (row, column) of a batch.

    The batch is that of step ``s``: the ``rows`` rows order[first ..] of the data. The destination starts at ``x`` in
    ``work``.
    """
    TILE, THREADS = geometry.tile, geometry.threads
    AT_ONCE = 4 if TILE % 4 == 0 else 1
    IN_ROW, ROWS = TILE // AT_ONCE, TILE * TILE // (AT_ONCE * THREADS)  # threads per row, rows per thread
    assert THREADS % IN_ROW == 0 and ROWS * AT_ONCE * THREADS == TILE * TILE
    T, scalar = np.dtype(dtype).type, numba.from_dtype(np.dtype(dtype))
    one, zero = T(1), T(0)

    @device
    def vec4(on, first, rows, x, mean, scale, width, m, c):
        """Gather as `singles` with vector loads of four; all loads are issued before the first store."""
        values, by = cuda.local.array((ROWS, 4), scalar), cuda.local.array((2, 4), scalar)
        source = cuda.local.array(ROWS, numba.int64)
        for p in range(ROWS):
            r = m + p * (THREADS // IN_ROW)
            source[p] = on.order[U(first + r)] if r < rows else -1
        for q in range(4):
            by[0, q], by[1, q] = zero, one
        if mean >= 0:
            by[0, 0], by[0, 1], by[0, 2], by[0, 3] = load4(on.weights, U(mean + c))
        if scale >= 0:
            by[1, 0], by[1, 1], by[1, 2], by[1, 3] = load4(on.weights, U(scale + c))
        for p in range(ROWS):
            if source[p] >= 0:
                v, w, y, z = load4(on.data, U(source[p]) * U(width) + U(c))
                values[p, 0], values[p, 1], values[p, 2], values[p, 3] = T(v), T(w), T(y), T(z)
        for p in range(ROWS):
            if source[p] >= 0:
                for q in range(4):
                    values[p, q] = (values[p, q] - by[0, q]) * by[1, q]
                at = U(x + (m + p * (THREADS // IN_ROW)) * width + c)
                store4(on.work, at, values[p, 0], values[p, 1], values[p, 2], values[p, 3])

    @device
    def singles(on, first, rows, x, mean, scale, width, m, c):
        """Gather a thread's columns c .. c + AT_ONCE of rows m, m + THREADS // IN_ROW, ..., one element at a time."""
        for r in range(m, rows, THREADS // IN_ROW):
            source = U(on.order[U(first + r)])
            for k in range(c, min(width, c + AT_ONCE)):
                v = T(on.data[source, U(k)])
                if mean >= 0:
                    v = v - on.weights[U(mean + k)]
                if scale >= 0:
                    v = v * on.weights[U(scale + k)]
                on.work[U(x + r * width + k)] = v

    @device
    def run(on, s, first, rows, x, row, column):
        thread, width, mean, scale = cuda.threadIdx.x, on.ops[0, IN], on.ops[0, GATHER_MEAN], on.ops[0, GATHER_SCALE]
        m, c = row + thread // IN_ROW, column + thread % IN_ROW * AT_ONCE
        if AT_ONCE == 4 and width % 4 == 0:
            if c < width:
                vec4(on, first, rows, x, mean, scale, width, m, c)
        else:
            singles(on, first, min(rows, row + TILE), x, mean, scale, width, m, c)

    return run
