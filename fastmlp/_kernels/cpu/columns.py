"""Functions by column, y = f(x, a, b): kernels of the module API and functions called by address in the engine."""

from __future__ import annotations

import functools

from .declare import MATRIX, VECTOR
from .elementwise import formula, load_some, map_columns, store_some
from .jit import carray, function_pointer, inline, kernel
from .operations import ALL, clear_last, first_and_end
from .panels import offset_of, panel_stride
from .simd import fma, keep_first, lanes, load, load_tail, store
from .table import CAPACITY, DX, DY, FIRST, OUT, SCRATCH, SECOND, X, Y

__all__ = ["columns_backward", "columns_forward", "panel_backward", "panel_forward", "panel_gradient"]


def _functions(kind):
    """Return (f, df/dx, df/da, df/db), with df/dx as an unused placeholder for a missing derivative."""
    found = formula("columns", kind)
    names = ("forward", "derivative", "derivative_a", "derivative_b")
    return tuple(found.get(name, found["derivative"]) for name in names)


@functools.cache
def columns_forward(kind):
    """Return the kernel out (N, C) = f(x, a, b); a and b (C,) may be empty."""
    f, *_ = _functions(kind)

    @kernel(MATRIX, VECTOR, VECTOR, MATRIX, made_with=(kind,))
    def forward(x, a, b, out):
        map_columns(f, x, a, b, out)

    return forward


@functools.cache
def columns_backward(kind):
    """Return the kernel of dx (N, C) = dy f'(x) and of da, db (C,), the sums of dy df/da and dy df/db over the batch.

    da and db may be empty.
    """
    _, derivative, of_a, of_b = _functions(kind)

    @kernel(MATRIX, MATRIX, VECTOR, VECTOR, MATRIX, VECTOR, VECTOR, made_with=(kind,))
    def backward(dy, x, a, b, dx, da, db):
        rows, columns = dx.shape
        width = lanes(dx)
        for c in range(0, columns, width):
            count = min(width, columns - c)
            u, v = load_some(a, c, min(count, a.size)), load_some(b, c, min(count, b.size))
            total_a, total_b = load_tail(dx, 0, 0), load_tail(dx, 0, 0)
            for at in range(c, rows * columns, columns):
                g, w = load_some(dy, at, count), load_some(x, at, count)
                total_a, total_b = fma(g, of_a(w, u, v), total_a), fma(g, of_b(w, u, v), total_b)
                store_some(dx, at, g * derivative(w, u, v), count)
            if da.size > 0:
                store_some(da, c, total_a, count)
            if db.size > 0:
                store_some(db, c, total_b, count)

    return backward


# ------------------------------------------------------------------------------- panels of the engine


@inline
def _numbers(weights, table, column):
    """Return a and b of one vector of columns."""
    a = load(weights, table[FIRST] + column)
    return a, a if table[SECOND] < 0 else load(weights, table[SECOND] + column)


@functools.cache
def panel_forward(kind):
    """Return the function y = f(x, a, b) on a panel; it saves trained a and b for `panel_gradient`.

    Each thread saves them, as only some of the ranks of a group have the first row of the batch.
    """
    f, *_ = _functions(kind)

    @function_pointer.made_with(kind)
    def forward(work_p, weights_p, table_p, numbers_p, first, last, column):
        work, weights, table = carray(work_p, ALL), carray(weights_p, ALL), carray(table_p, ALL)
        stride, unit = panel_stride(work, table[OUT], column), lanes(work)
        x, y = table[X] + column * table[CAPACITY], table[Y] + column * table[CAPACITY]
        for c in range(0, stride, unit):
            a, b = _numbers(weights, table, column + c)
            if table[SCRATCH] >= 0:
                store(work, table[SCRATCH] + 2 * (column + c), a)
                store(work, table[SCRATCH] + 2 * (column + c) + unit, b)
            for i in range(first * stride + c, last * stride, stride):
                store(work, y + i, f(load(work, x + i), a, b))
        clear_last(work, y + first * stride, last - first, stride, table[OUT] - column)

    return forward


@functools.cache
def panel_backward(kind):
    """Return the function dx = dy df/dx on a panel."""
    _, derivative, *_ = _functions(kind)

    @function_pointer.made_with(kind)
    def backward(work_p, weights_p, table_p, numbers_p, first, last, column):
        work, weights, table = carray(work_p, ALL), carray(weights_p, ALL), carray(table_p, ALL)
        stride, unit, at = panel_stride(work, table[OUT], column), lanes(work), column * table[CAPACITY]
        x, dy, dx = table[X] + at, table[DY] + at, table[DX] + at
        for c in range(0, stride, unit):
            a, b = _numbers(weights, table, column + c)
            for i in range(first * stride + c, last * stride, stride):
                store(work, dx + i, load(work, dy + i) * derivative(load(work, x + i), a, b))
        clear_last(work, dx + first * stride, last - first, stride, table[OUT] - column)

    return backward


@functools.cache
def panel_gradient(kind):
    """Return the function that writes the gradient of a panel of a (``which`` even) or b (odd) to work[out].

    The panel's first column is ``which`` // 2, and the rows are those of `first_and_end`. The function reads the a and
    b saved by `panel_forward`, because another thread may be updating the parameters.
    """
    _, _, of_a, of_b = _functions(kind)

    @function_pointer.made_with(kind)
    def gradient(work_p, weights_p, table_p, numbers_p, out, rows_of, which):
        r0, r1 = first_and_end(rows_of)
        work, table = carray(work_p, ALL), carray(table_p, ALL)
        width, rows, unit, column = table[OUT], table[CAPACITY], lanes(work), which // 2
        stride = panel_stride(work, width, column)
        for c in range(0, stride, unit):
            kept = table[SCRATCH] + 2 * (column + c)
            a, b, total = load(work, kept), load(work, kept + unit), load_tail(work, 0, 0)
            x = offset_of(work, table[X], rows, width, 0, column) + c
            dy = offset_of(work, table[DY], rows, width, 0, column) + c
            for i in range(r0 * stride, r1 * stride, stride):
                v, g = load(work, x + i), load(work, dy + i)
                total = fma(g, of_a(v, a, b) if which % 2 == 0 else of_b(v, a, b), total)
            store(work, out + c, keep_first(total, width - column - c, 0.0))

    return gradient
