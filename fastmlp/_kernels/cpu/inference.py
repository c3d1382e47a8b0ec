"""Kernels of `fastmlp.Predictor`, as functions that its driver (`compiled/plan.pxi`) calls by their addresses.

Activations are row-major, with rows padded to whole panels of columns, so that a single row is a matrix in panels too.
Weights and biases are in panels, see `panels`. The padding may hold any numbers.
"""

from __future__ import annotations

import functools

from .arithmetic import ceil_div
from .binned import cell_of
from .elementwise import formula, map_columns
from .gemm import Matrix, Panel, narrow_panel, wide_panel
from .jit import carray, function_pointer, inline
from .native import bytes_at, pointer, prefetch_to_read
from .rows import layer_norm_row_forward, normalize_row, softmax_forward_rows
from .simd import element, fma, lanes, load, load_as, set_element, store
from .tile import at_least, load_tile, multiply_add_row, new_tile, store_tile, strides

__all__ = ["binned_rows", "columns_row", "convert_bytes", "layer_norm_row", "linear", "normalized_row", "softmax_row"]

_ALL = 1 << 48  # placeholder shape of arrays made from pointers; never read

# Bytes of a panel that are prefetched: the panels of a large layer come from beyond L2, in several streams at once.
AHEAD = 1024


@inline
def _row_panels(tile, panels, k, a, weight, start, bias, lowest, c, column, unit):
    """Compute one row of ``panels`` panels of C from ``column`` on; W's first panel is at ``start`` of ``weight``.

    With the eight chains of four panels no multiply-add waits for the one before.
    """
    width = lanes(c)
    step = 2 * width
    sums = load_tile(tile, bias, column, step, width)
    distances = strides(weight, k * step)
    j, ahead = start, AHEAD // c.itemsize
    p = 0
    while p < k:
        sums = multiply_add_row(sums, a, p, distances, weight, j)
        for r in range(panels):
            prefetch_to_read(weight, j + r * k * step + ahead)
        j += step
        p += unit
    store_tile(at_least(sums, lowest), c, column, step, width)


@functools.partial(
    function_pointer,
    arguments=("real*", "int64", "real*", "real*", "float64", "real*", *["int64"] * 7),
)
def linear(a_p, lda, weight_p, bias_p, lowest, c_p, ldc, rows, k, width, first, last, unit):
    """Compute columns first .. last of C = max(A W + bias, lowest), in whole vectors; ``first`` begins a panel.

    A (rows, k) and C (rows, width) are row-major, with ``lda`` and ``ldc`` elements from row to row. W (k, width) is in
    panels. ``unit`` is 1, see `cpu.linear`. The bits of a row do not depend on the number of rows.
    """
    a, weight, bias, c = carray(a_p, _ALL), carray(weight_p, _ALL), carray(bias_p, _ALL), carray(c_p, _ALL)
    half = lanes(c)
    column = first
    if rows == 1:
        while last - column > 7 * half:
            _row_panels(new_tile(c, 4, 2), 4, k, a, weight, column * k, bias, lowest, c, column, unit)
            column += 8 * half
        if last - column > 3 * half:
            _row_panels(new_tile(c, 2, 2), 2, k, a, weight, column * k, bias, lowest, c, column, unit)
            column += 4 * half
    while column < last:
        panel = Panel(carray(pointer(weight, column * k), _ALL), k, True, column, half, c.dtype.type(lowest))
        if width - column > half:
            wide_panel(rows, Matrix(a, 0, lda, unit), panel, bias, Matrix(c, 0, ldc, unit))
        else:
            narrow_panel(rows, Matrix(a, 0, lda, unit), panel, bias, Matrix(c, 0, ldc, unit))
        column += 2 * half


@functools.partial(
    function_pointer,
    arguments=("real*", "int64", "int64", "int64*", "int64", "real*", "real*", "int64", "int64", "int64"),
)
def binned_rows(a_p, lda, dense, bins_p, count, rows_p, c_p, ldc, m, width):
    """Add the rows of the ``count`` coded columns of A, which follow the dense ones, to C (m, width).

    ``rows`` is `reference_binned.sums_and_rows`, with the width padded to whole vectors.
    """
    a, bins, rows, c = carray(a_p, _ALL), carray(bins_p, _ALL), carray(rows_p, _ALL), carray(c_p, _ALL)
    room = ceil_div(width, lanes(c)) * lanes(c)
    for r in range(m):
        for column in range(count):
            position = element(a, r * lda + dense + column)
            row, fraction = cell_of(position, bins[3 * column], bins[3 * column + 1], bins[3 * column + 2])
            if row < 0:
                continue
            source, scale = 2 * row * room, c.dtype.type(fraction)
            for v in range(0, room, lanes(c)):
                total = load(c, r * ldc + v) + load(rows, source + v)
                if fraction != 0.0:
                    total = fma(load(rows, source + room + v), scale, total)
                store(c, r * ldc + v, total)


@functools.partial(function_pointer, arguments=("int64", "int64", "int64", "real*"))
def convert_bytes(address, step, width, row_p):
    """Write ``width`` uint8 at ``address``, ``step`` bytes apart, to a row."""
    source, row = carray(bytes_at(address), _ALL), carray(row_p, _ALL)
    column = 0
    if step == 1:
        while column + lanes(row) <= width:
            store(row, column, load_as(source, column, row))
            column += lanes(row)
    while column < width:
        set_element(row, column, element(source, column * step))
        column += 1


# ------------------------------------------------------------------------------------ functions of a row
# f(row, first, second, number, width): the row changes in place, by two vectors of parameters and a number.

_ROW = ("real*", "real*", "real*", "float64", "int64")


@functools.partial(function_pointer, arguments=_ROW)
def softmax_row(row_p, first_p, second_p, number, width):
    """Compute the softmax."""
    row = carray(row_p, (1, width))
    softmax_forward_rows(row, row)


@functools.partial(function_pointer, arguments=_ROW)
def layer_norm_row(row_p, weight_p, bias_p, eps, width):
    """Compute the layer normalization."""
    row = carray(row_p, width)
    layer_norm_row_forward(row, 0, width, carray(weight_p, width), carray(bias_p, width), eps, row)


@functools.partial(function_pointer, arguments=_ROW)
def normalized_row(row_p, mean_p, scale_p, number, width):
    """Compute (x - mean) / scale."""
    normalize_row(carray(row_p, width), 0, width, carray(mean_p, width), carray(scale_p, width))


@functools.cache
def columns_row(kind):
    """Return the function y = f(x, a, b) of a row, of a function by column."""
    f = formula("columns", kind)["forward"]

    @function_pointer.made_with(kind, arguments=_ROW)
    def forward(row_p, a_p, b_p, number, width):
        row = carray(row_p, (1, width))
        map_columns(f, row, carray(a_p, width), carray(b_p, width), row)

    return forward
