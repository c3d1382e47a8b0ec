"""The three products of a layer as one tiled kernel, and sums over the batch. Written for any GPU: plain FMAs."""

from __future__ import annotations

import functools

import numba
import numpy as np

from .runtime import SIMULATED, cuda, launch

__all__ = ["column_sums", "product"]

# A block of SIDE x SIDE threads computes TILE x TILE of the result, EACH x EACH a thread, DEPTH of the inner
# dimension at a time.
SIDE, EACH, DEPTH = (4, 4, 4) if SIMULATED else (16, 4, 16)
TILE = SIDE * EACH
PITCH = TILE + 1  # of a tile in shared memory: threads that walk down a column then meet different banks
_THREADS = SIDE * SIDE
_PASSES = TILE * DEPTH // _THREADS  # elements of a tile that each thread fetches

COLUMNS, PARTS = (4, 2) if SIMULATED else (32, 8)  # of a block that sums columns


@functools.cache
def _kernel(left_transposed, right_transposed, dtype):
    """out (M, N) = A (M, K) B (K, N) (+ bias (N,)), A or B given as their transposes."""
    scalar = numba.from_dtype(np.dtype(dtype))
    zero = np.dtype(dtype).type(0)

    @cuda.jit
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
                # Neighbouring threads take neighbouring addresses, whichever way the matrix lies.
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


def product(a, b, bias, out, none, left_transposed=False, right_transposed=False):
    """out = A B (+ bias); ``none`` is any vector, passed on where there is no bias."""
    kernel = _kernel(left_transposed, right_transposed, out.dtype)
    grid = (-(-out.shape[1] // TILE), -(-out.shape[0] // TILE))
    launch(kernel, grid, (SIDE, SIDE), a, b, none if bias is None else bias, bias is not None, out)


@functools.cache
def _column_sums(dtype):
    scalar = numba.from_dtype(np.dtype(dtype))
    zero = np.dtype(dtype).type(0)

    @cuda.jit
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
            for part in range(1, PARTS):  # always in this order: no atomics
                total += parts[part, tx]
            out[column] = total

    return column_sums


def column_sums(a, out):
    """out (C,) = the sums of a's columns (N, C)."""
    launch(_column_sums(out.dtype), -(-out.size // COLUMNS), (COLUMNS, PARTS), a, out)
