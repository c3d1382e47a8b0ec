"""Functions by column, y = f(x, a, b): kernels of the module API and jobs of the persistent kernel."""

from __future__ import annotations

import functools

import numba
import numpy as np

from ..._common.arithmetic import ceil_div
from .elementwise import THREADS, blocks
from .epilogue import epilogue_of, through
from .jit import device, kernel
from .number import formula
from .products import COLUMNS, PARTS
from .runtime import cuda, launch
from .table import BELOW, BIAS, FIRST, FORMULA, IN, OP, SECOND, SUMS, WEIGHT
from .tiles import U, features, inputs_of

__all__ = ["by_column", "column_gradient", "columns_backward", "columns_forward"]


def _functions(kind, dtype):
    """Return (f, df/dx, df/da, df/db); df/dx is an unused placeholder for a derivative that does not exist."""
    found = formula("columns", kind, np.dtype(dtype))
    names = ("forward", "derivative", "derivative_a", "derivative_b")
    return tuple(found.get(name, found["derivative"]) for name in names)


# ----------------------------------------------------------------------------------------- module API


@functools.cache
def _forward(kind, dtype):
    f, *_ = _functions(kind, dtype)

    @kernel
    def forward(x, a, b, out):
        columns = out.shape[1]
        for i in range(cuda.grid(1), out.size, cuda.gridsize(1)):
            r, c = i // columns, i % columns
            out[r, c] = f(x[r, c], a[c], b[c])

    return forward


def columns_forward(kind, x, a, b, out):
    launch(_forward(kind, out.dtype), blocks(out.size), THREADS, x, a, a if b is None else b, out)


@functools.cache
def _backward(kind, dtype):
    _, derivative, *_ = _functions(kind, dtype)

    @kernel
    def backward(dy, x, a, b, dx):
        columns = dx.shape[1]
        for i in range(cuda.grid(1), dx.size, cuda.gridsize(1)):
            r, c = i // columns, i % columns
            dx[r, c] = dy[r, c] * derivative(x[r, c], a[c], b[c])

    return backward


@functools.cache
def _gradient(kind, dtype, which):
    scalar, zero = numba.from_dtype(dtype), dtype.type(0)
    of = _functions(kind, dtype)[2 + which]

    @kernel
    def gradient(dy, x, a, b, out):
        shared = cuda.shared.array((PARTS, COLUMNS), scalar)
        tx, ty = cuda.threadIdx.x, cuda.threadIdx.y
        column = cuda.blockIdx.x * COLUMNS + tx
        total = zero
        if column < out.size:
            for r in range(ty, x.shape[0], PARTS):
                total += dy[r, column] * of(x[r, column], a[column], b[column])
        shared[ty, tx] = total
        cuda.syncthreads()
        if ty == 0 and column < out.size:
            for part in range(1, PARTS):
                total += shared[part, tx]
            out[column] = total

    return gradient


def columns_backward(kind, dy, x, a, b, dx, da, db):
    b = a if b is None else b
    launch(_backward(kind, dx.dtype), blocks(dx.size), THREADS, dy, x, a, b, dx)
    for which, out in enumerate((da, db)):
        if out is not None:
            launch(_gradient(kind, dx.dtype, which), ceil_div(out.size, COLUMNS), (COLUMNS, PARTS), dy, x, a, b, out)


# ----------------------------------------------------------------------------------------------- jobs


@functools.cache
def _choose(names, dtype, which):
    """Return a device function that dispatches on a formula's number to entry ``which`` of its `_functions`."""
    last = _functions(names[-1], dtype)[which]
    if len(names) == 1:
        return device(lambda number, x, a, b: last(x, a, b))
    rest, count = _choose(names[:-1], dtype, which), len(names) - 1

    @device
    def chosen(number, x, a, b):
        return last(x, a, b) if number == count else rest(number, x, a, b)

    return chosen


@functools.cache
def by_column(dtype, geometry, kinds, names, backward):
    """Return the job of functions by column, or of their gradient; FORMULA is an index into ``names``."""
    threads, size = geometry.threads, geometry.tile
    f, write = _choose(names, dtype, int(backward)), through(kinds, dtype)

    @device
    def run(on, smem, now, o, row):
        columns, first, second, number = on.ops[o, IN], on.ops[o, FIRST], on.ops[o, SECOND], on.ops[o, FORMULA]
        inputs, own_epilogue, epilogue = (
            inputs_of(on, now, o),
            epilogue_of(on, o),
            epilogue_of(on, max(on.ops[o, BELOW], 0)),
        )
        for i in range(row * columns + cuda.threadIdx.x, min(now.rows, row + size) * columns, threads):
            c = i % columns
            x = features(on, inputs, i // columns, c)
            v = f(number, x, on.weights[first + c], on.weights[second + c])
            if backward:
                write(on, epilogue, i, on.work[own_epilogue.g + i] * v)
            else:
                on.work[own_epilogue.y + i] = v

    return run


def column_gradient(dtype, geometry, names, apply_update, add_squares, settings_of):
    """Return the job that computes and applies the gradients of a and b of SIDE columns.

    The rows of a thread are SIDE apart.
    """
    side, zero = geometry.side, np.dtype(dtype).type(0)
    of_a, of_b = _choose(names, dtype, 2), _choose(names, dtype, 3)

    @device
    def run(on, smem, now, j, item):
        o = U(on.jobs[j, OP])
        ty, tx = cuda.threadIdx.x // side, cuda.threadIdx.x % side
        inputs, epilogue, to, number = (
            inputs_of(on, now, o),
            epilogue_of(on, o),
            settings_of(on, now),
            on.ops[o, FORMULA],
        )
        column, width, bias = item * side + tx, on.ops[o, IN], on.ops[o, BIAS]
        total_a, total_b, squares = zero, zero, zero
        if column < width:
            a, b = on.weights[on.ops[o, FIRST] + column], on.weights[on.ops[o, SECOND] + column]
            for r in range(ty, now.rows, side):
                g, x = on.work[epilogue.g + r * width + column], features(on, inputs, r, column)
                total_a += g * of_a(number, x, a, b)
                if bias >= 0:
                    total_b += g * of_b(number, x, a, b)
        for which in range(2 if bias >= 0 else 1):
            smem.square[tx, ty] = total_a if which == 0 else total_b
            cuda.syncthreads()
            if ty == 0 and column < width:
                total = zero
                for i in range(side):
                    total += smem.square[tx, i]
                _, g = apply_update(on, to, (on.ops[o, WEIGHT] if which == 0 else bias) + column, total, False)
                squares += g
            cuda.syncthreads()
        add_squares(on, smem, on.jobs[j, SUMS] + item, zero, squares)

    return run
