"""Matrix products of a Linear layer and column sums, for the module API.

One tiled kernel uses plain FMAs and runs on any GPU. A second kernel uses tensor cores with the mainloop of the
persistent kernel.
"""

from __future__ import annotations

import functools

import numba
import numpy as np

from ..._common.arithmetic import ceil_div
from .jit import kernel
from .runtime import SIMULATED, cuda, launch
from .table import DELTA, FORWARD, WEIGHTS
from .tensor import fragment_layout
from .tiles import NARROW, U, buffers, mainloop

__all__ = ["column_sums", "product"]

# A block of SIDE x SIDE threads computes TILE x TILE of the result, EACH x EACH a thread, DEPTH of the inner
# dimension at a time.
SIDE, EACH, DEPTH = (4, 4, 4) if SIMULATED else (16, 4, 16)
TILE = SIDE * EACH
PITCH = TILE + 1  # of a row in shared memory; the padding avoids bank conflicts down a column
_THREADS = SIDE * SIDE
_PASSES = TILE * DEPTH // _THREADS  # elements of a tile that each thread loads

COLUMNS, PARTS = (4, 2) if SIMULATED else (32, 8)  # columns and threads per column of a block of `column_sums`


@functools.cache
def _kernel(left_transposed, right_transposed, dtype):
    """Return the kernel for out (M, N) = A (M, K) B (K, N) (+ bias (N,)), with A or B stored transposed."""
    scalar = numba.from_dtype(np.dtype(dtype))
    zero = np.dtype(dtype).type(0)

    @kernel
    def multiply(a, b, bias, has_bias, out):
        left = cuda.shared.array((DEPTH, PITCH), scalar)
        right = cuda.shared.array((DEPTH, PITCH), scalar)
        sums = cuda.local.array((EACH, EACH), scalar)
        m, n = out.shape
        inner = a.shape[0] if left_transposed else a.shape[1]
        row, column = cuda.blockIdx.y * TILE, cuda.blockIdx.x * TILE
        ty, tx = cuda.threadIdx.y, cuda.threadIdx.x
        thread = ty * SIDE + tx
        for i in range(EACH):
            for j in range(EACH):
                sums[i, j] = zero
        for start in range(0, inner, DEPTH):
            for p in range(_PASSES):
                at = thread + p * _THREADS
                # Adjacent threads load adjacent addresses in both storage orders (coalesced loads).
                if left_transposed:
                    r, k = at % TILE, at // TILE
                else:
                    r, k = at // DEPTH, at % DEPTH
                value = zero
                if row + r < m and start + k < inner:
                    value = a[start + k, row + r] if left_transposed else a[row + r, start + k]
                left[k, r] = value
                if right_transposed:
                    c, k = at // DEPTH, at % DEPTH
                else:
                    c, k = at % TILE, at // TILE
                value = zero
                if column + c < n and start + k < inner:
                    value = b[column + c, start + k] if right_transposed else b[start + k, column + c]
                right[k, c] = value
            cuda.syncthreads()
            for k in range(DEPTH):
                for i in range(EACH):
                    element = left[k, ty + i * SIDE]
                    for j in range(EACH):
                        sums[i, j] += element * right[k, tx + j * SIDE]
            cuda.syncthreads()
        for i in range(EACH):
            r = row + ty + i * SIDE
            for j in range(EACH):
                c = column + tx + j * SIDE
                if r < m and c < n:
                    out[r, c] = sums[i, j] + bias[c] if has_bias else sums[i, j]

    return multiply


@functools.cache
def tensor_kernel(kind, precision, geometry=NARROW):
    """Return the tensor-core kernel for out (M, N) = A (M, K) B (K, N) (+ bias (N,)).

    A and B are flat. A is stored transposed for WEIGHTS, B for FORWARD.
    """
    EACH, TILE = geometry.each, geometry.tile
    ROOM = buffers("float32", geometry) * TILE * geometry.depth
    run_mainloop = mainloop(kind, "float32", geometry, precision, True)
    left_inner, right_inner = kind != WEIGHTS, kind == FORWARD
    position_of, down, along = fragment_layout(precision, geometry)

    @kernel
    def multiply(a, b, inner, bias, has_bias, out):
        left = cuda.shared.array(ROOM, numba.float32, alignment=16)
        right = cuda.shared.array(ROOM, numba.float32, alignment=16)
        sums, ones = cuda.local.array((EACH, EACH), numba.float32), cuda.local.array(EACH, numba.float32)
        m, n = out.shape
        row, column, thread = cuda.blockIdx.y * TILE, cuda.blockIdx.x * TILE, cuda.threadIdx.x
        left_stride, right_stride = U(inner if left_inner else m), U(inner if right_inner else n)
        run_mainloop(
            sums, ones, left, right, a, U(row) * left_stride if left_inner else U(row), left_stride,
            b, U(column) * right_stride if right_inner else U(column), right_stride,
            m - row, n - column, 0, inner, False, thread,
        )  # fmt: skip
        first_row, first_column = position_of(thread)
        for i in range(EACH):
            r = row + first_row + down(i)
            for j in range(EACH):
                c = column + first_column + along(j)
                if r < m and c < n:
                    out[r, c] = sums[i, j] + bias[c] if has_bias else sums[i, j]

    return multiply


_KINDS = {(False, True): FORWARD, (False, False): DELTA, (True, False): WEIGHTS}


def product(a, b, bias, out, none, left_transposed=False, right_transposed=False, precision="float32"):
    """Compute out = A B (+ bias); ``none`` is any vector, passed to the kernel if ``bias`` is None."""
    has_bias = bias is not None
    bias = bias if has_bias else none
    if precision == "float32":
        kernel = _kernel(left_transposed, right_transposed, out.dtype)
        grid = (ceil_div(out.shape[1], TILE), ceil_div(out.shape[0], TILE))
        launch(kernel, grid, (SIDE, SIDE), a, b, bias, has_bias, out)
        return
    kernel = tensor_kernel(_KINDS[left_transposed, right_transposed], precision)
    grid = (ceil_div(out.shape[1], NARROW.tile), ceil_div(out.shape[0], NARROW.tile))
    inner = a.shape[0] if left_transposed else a.shape[1]
    launch(kernel, grid, NARROW.threads, a.reshape(-1), b.reshape(-1), inner, bias, has_bias, out)


@functools.cache
def _column_sums(dtype):
    scalar = numba.from_dtype(np.dtype(dtype))
    zero = np.dtype(dtype).type(0)

    @kernel
    def column_sums(a, out):
        parts = cuda.shared.array((PARTS, COLUMNS), scalar)
        tx, ty = cuda.threadIdx.x, cuda.threadIdx.y
        column = cuda.blockIdx.x * COLUMNS + tx
        total = zero
        if column < out.size:
            for r in range(ty, a.shape[0], PARTS):
                total += a[r, column]
        parts[ty, tx] = total
        cuda.syncthreads()
        if ty == 0 and column < out.size:
            for part in range(1, PARTS):  # a fixed order for reproducible results, hence no atomics
                total += parts[part, tx]
            out[column] = total

    return column_sums


def column_sums(a, out):
    """Compute out (C,), the column sums of a (N, C)."""
    launch(_column_sums(out.dtype), ceil_div(out.size, COLUMNS), (COLUMNS, PARTS), a, out)
