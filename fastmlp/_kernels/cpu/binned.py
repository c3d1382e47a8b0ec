"""Kernels of `BinnedLinear`: two rows of a table for each coded column, see `reference_binned`.

The code (1, ..., 1, f, 0, ..., 0) of a column times its rows of the table W is S[row] + f W[row], where S[row] is the
sum of W's rows before the row. A level is the row W[row] alone. So ``sums`` has S for bins, and W for levels.
The gradient of the table adds dz to the row of each cell, replaces the rows of bins by the sums of the rows after them,
and adds f dz. Each sum is one chain in the order of the columns or of the batch, so that bits depend on neither threads
nor blocks.

Functions called by address store the cells of a batch, pairs of a row and a fraction, column by column; a row of -1 is
none.
"""

from __future__ import annotations

import numpy as np

from .arithmetic import ceil_div
from .declare import INT, INT_ROWS, MATRIX, VECTOR
from .elementwise import load_some, store_some
from .gemm import Matrix, multiply
from .jit import carray, function_pointer, inline, kernel
from .linear import column_sums
from .native import integers_at
from .operations import ALL, first_and_end
from .panels import offset_of, panel_stride
from .simd import element, fma, keep_first, lanes, load, load_tail, set_element, store
from .table import BINS, BINS_COUNT, CAPACITY, CELLS, DY, IN, OUT, SUMS, TABLE, X, Y

__all__ = [
    "binned_linear_backward", "binned_linear_forward", "panel_forward", "panel_gradient", "panel_sums", "split",
]  # fmt: skip

_COLUMN = 1 << 32  # factor of a panel's first column in the last argument of `panel_gradient`


@inline
def cell_of(position, first, count, is_binned):
    """Return (row of the table or -1, fraction) of a position; a fraction of NaN stays NaN."""
    p = np.float64(position)
    if is_binned == 0:
        if p >= 0.0 and p < count:
            return first + np.int64(p), 0.0
        return np.int64(-1), 0.0
    if p < 0.0:
        p = 0.0
    if p > count:
        p = np.float64(count)
    row = np.int64(0)
    if p >= 0.0:  # False for NaN
        row = min(np.int64(p), count - 1)
    return first + row, p - row


# ------------------------------------------------------------------------------------ row-major arrays


@inline
def _turn(table, bins, rows, sums):
    """Write the rows of the table (O, B) to ``rows`` (B, O), and the sums of the rows before them to ``sums``."""
    outputs, count = table.shape
    for o in range(outputs):
        for k in range(count):
            set_element(rows, k * outputs + o, element(table, o * count + k))
    for c in range(bins.shape[0]):
        first, last = bins[c, 0], bins[c, 0] + bins[c, 1]
        for o in range(0, outputs, lanes(sums)):
            some = min(lanes(sums), outputs - o)
            total = load_tail(sums, 0, 0)
            for k in range(first, last):
                row = load_some(rows, k * outputs + o, some)
                if bins[c, 2] != 0:
                    store_some(sums, k * outputs + o, total, some)
                    total = total + row
                else:
                    store_some(sums, k * outputs + o, row, some)


@kernel(MATRIX, INT_ROWS, MATRIX, MATRIX, VECTOR, MATRIX, MATRIX, MATRIX, VECTOR, INT)
def binned_linear_forward(x, bins, weight, table, bias, out, rows, sums, packed, unit):
    """Compute out (N, O), see `reference_binned`; rows and sums (B, O) are scratch."""
    n, inputs = x.shape
    outputs, dense = weight.shape
    multiply(
        Matrix(x, 0, inputs, unit), Matrix(weight, 0, unit, dense), bias, Matrix(out, 0, outputs, unit), n, outputs,
        dense, packed,
    )  # fmt: skip
    _turn(table, bins, rows, sums)
    for r in range(n):
        for c in range(bins.shape[0]):
            position = element(x, r * inputs + dense + c)
            row, fraction = cell_of(position, bins[c, 0], bins[c, 1], bins[c, 2])
            if row < 0:
                continue
            for o in range(0, outputs, lanes(out)):
                some = min(lanes(out), outputs - o)
                total = load_some(out, r * outputs + o, some) + load_some(sums, row * outputs + o, some)
                if fraction != 0.0:
                    total = fma(load_some(rows, row * outputs + o, some), fraction, total)
                store_some(out, r * outputs + o, total, some)


@inline
def _scatter(dy, x, bins, dense, c, by_fraction, rows):
    """Add dz, or f dz, to the row of each cell of a coded column."""
    n, outputs = dy.shape
    inputs = x.shape[1]
    for r in range(n):
        position = element(x, r * inputs + dense + c)
        row, fraction = cell_of(position, bins[c, 0], bins[c, 1], bins[c, 2])
        if row < 0 or (by_fraction and not fraction != 0.0):
            continue
        for o in range(0, outputs, lanes(rows)):
            some = min(lanes(rows), outputs - o)
            at = row * outputs + o
            g, total = load_some(dy, r * outputs + o, some), load_some(rows, at, some)
            store_some(rows, at, fma(g, fraction, total) if by_fraction else total + g, some)


@kernel(MATRIX, MATRIX, INT_ROWS, MATRIX, MATRIX, MATRIX, MATRIX, MATRIX, VECTOR, MATRIX, VECTOR, INT)
def binned_linear_backward(dy, x, bins, weight, table, dx, dweight, dtable, dbias, rows, packed, unit):
    """Compute the gradients, see `reference_binned`; dx and dbias may have size 0, rows (B, O) is scratch."""
    n, inputs = x.shape
    outputs, dense = weight.shape
    count = table.shape[1]
    nothing = packed[:0]
    multiply(
        Matrix(dy, 0, unit, outputs), Matrix(x, 0, inputs, unit), nothing, Matrix(dweight, 0, dense, unit), outputs,
        dense, n, packed,
    )  # fmt: skip
    if dbias.size > 0:
        column_sums(dy, dbias)
    if dx.size > 0:
        multiply(
            Matrix(dy, 0, outputs, unit), Matrix(weight, 0, dense, unit), nothing, Matrix(dx, 0, inputs, unit), n,
            dense, outputs, packed,
        )  # fmt: skip
        for r in range(n):
            for c in range(bins.shape[0]):
                at = r * inputs + dense + c
                p, total = np.float64(element(x, at)), 0.0
                if bins[c, 2] != 0 and p >= 0.0 and p <= bins[c, 1]:
                    row, _ = cell_of(p, bins[c, 0], bins[c, 1], bins[c, 2])
                    for o in range(outputs):
                        total += np.float64(element(dy, r * outputs + o)) * element(table, o * count + row)
                set_element(dx, at, dx.dtype.type(total))
    zeros = load_tail(rows, 0, 0)
    for i in range(0, count * outputs, lanes(rows)):
        store_some(rows, i, zeros, min(lanes(rows), count * outputs - i))
    for c in range(bins.shape[0]):
        _scatter(dy, x, bins, dense, c, False, rows)
        if bins[c, 2] != 0:
            for o in range(0, outputs, lanes(rows)):
                some = min(lanes(rows), outputs - o)
                total = zeros
                for back in range(bins[c, 1]):
                    at = (bins[c, 0] + bins[c, 1] - 1 - back) * outputs + o
                    own = load_some(rows, at, some)
                    store_some(rows, at, total, some)
                    total = total + own
            _scatter(dy, x, bins, dense, c, True, rows)
    for o in range(outputs):
        for k in range(count):
            set_element(dtable, o * count + k, element(rows, k * outputs + o))


# ------------------------------------------------------------------------------- panels of the engine


@function_pointer
def split(work_p, weights_p, table_p, numbers_p, first, last, extra):
    """Copy the dense inputs to a matrix of their own, and store the cells of the coded columns."""
    work, table = carray(work_p, ALL), carray(table_p, ALL)
    bins = carray(integers_at(table[BINS]), ALL)
    width, rows, inputs, unit = table[OUT], table[CAPACITY], table[IN], lanes(work)
    for r in range(first, last):
        for c in range(0, width, unit):
            v = load(work, offset_of(work, table[X], rows, inputs, r, c))
            if width - c < unit:
                v = keep_first(v, width - c, 0.0)
            store(work, offset_of(work, table[Y], rows, width, r, c), v)
    for c in range(table[BINS_COUNT]):
        column = width + c
        lane = column % unit
        cell = table[CELLS] + 2 * (c * rows + first)
        for r in range(first, last):
            position = element(work, offset_of(work, table[X], rows, inputs, r, column - lane) + lane)
            row, fraction = cell_of(position, bins[3 * c], bins[3 * c + 1], bins[3 * c + 2])
            set_element(work, cell, work.dtype.type(row))
            set_element(work, cell + 1, work.dtype.type(fraction))
            cell += 2


@inline
def _panel_of(work, table, column):
    """Return (row stride of the panel of outputs at ``column``, offset of the panel in the table)."""
    height = ceil_div(table[IN], lanes(work)) * lanes(work)
    return panel_stride(work, table[OUT], column), column * height


@function_pointer
def panel_sums(work_p, weights_p, table_p, numbers_p, first, last, column):
    """Compute the rows first .. last of a panel of sums; they are those of whole coded columns."""
    work, weights, table = carray(work_p, ALL), carray(weights_p, ALL), carray(table_p, ALL)
    bins = carray(integers_at(table[BINS]), ALL)
    stride, at = _panel_of(work, table, column)
    source, target = table[TABLE] + at, table[SUMS] + at
    for c in range(table[BINS_COUNT]):
        begin, end = bins[3 * c], bins[3 * c] + bins[3 * c + 1]
        if begin < first or end > last:
            continue
        for v in range(0, stride, lanes(work)):
            total = load_tail(work, 0, 0)
            for i in range(begin * stride + v, end * stride, stride):
                row = load(weights, source + i)
                if bins[3 * c + 2] != 0:
                    store(work, target + i, total)
                    total = total + row
                else:
                    store(work, target + i, row)


@function_pointer
def panel_forward(work_p, weights_p, table_p, numbers_p, first, last, column):
    """Add the rows of the coded columns to a panel of outputs."""
    work, weights, table = carray(work_p, ALL), carray(weights_p, ALL), carray(table_p, ALL)
    unit, count, step = lanes(work), table[BINS_COUNT], 2 * table[CAPACITY]
    stride, at = _panel_of(work, table, column)
    source, target, y = table[TABLE] + at, table[SUMS] + at, table[Y] + column * table[CAPACITY]
    for r in range(first, last):
        to, cell = y + r * stride, table[CELLS] + 2 * r
        if stride > unit:
            a, b = load(work, to), load(work, to + unit)
            for c in range(count):
                row = np.int64(element(work, cell + c * step))
                fraction = element(work, cell + c * step + 1)
                if row >= 0:
                    i = row * stride
                    a, b = a + load(work, target + i), b + load(work, target + i + unit)
                    if fraction != 0.0:
                        a = fma(load(weights, source + i), fraction, a)
                        b = fma(load(weights, source + i + unit), fraction, b)
            store(work, to, a)
            store(work, to + unit, b)
        else:
            a = load(work, to)
            for c in range(count):
                row = np.int64(element(work, cell + c * step))
                fraction = element(work, cell + c * step + 1)
                if row >= 0:
                    a = a + load(work, target + row * stride)
                    if fraction != 0.0:
                        a = fma(load(weights, source + row * stride), fraction, a)
            store(work, to, a)


@function_pointer
def panel_gradient(work_p, weights_p, table_p, numbers_p, out, packed, place):
    """Write the gradient of one coded column's rows of a panel, over some rows of the batch, to work[out].

    ``packed`` is `pack_rows` of those rows; ``place`` is the panel's first column times 2^32 plus the first row of the
    coded column.
    """
    work, table = carray(work_p, ALL), carray(table_p, ALL)
    bins = carray(integers_at(table[BINS]), ALL)
    r0, r1 = first_and_end(packed)
    column, first, unit = place // _COLUMN, place % _COLUMN, lanes(work)
    stride = panel_stride(work, table[OUT], column)
    c = 0
    while bins[3 * c] != first:
        c += 1
    count = bins[3 * c + 1]
    cells, dy = table[CELLS] + 2 * c * table[CAPACITY], table[DY] + column * table[CAPACITY]
    zeros = load_tail(work, 0, 0)
    for i in range(0, count * stride, unit):
        store(work, out + i, zeros)
    for r in range(r0, r1):
        row = np.int64(element(work, cells + 2 * r)) - first
        if row >= 0:
            for v in range(0, stride, unit):
                at = out + row * stride + v
                store(work, at, load(work, at) + load(work, dy + r * stride + v))
    if bins[3 * c + 2] == 0:
        return
    for v in range(0, stride, unit):
        total = zeros
        for back in range(count):
            at = out + (count - 1 - back) * stride + v
            own = load(work, at)
            store(work, at, total)
            total = total + own
    for r in range(r0, r1):
        at = out + (np.int64(element(work, cells + 2 * r)) - first) * stride
        fraction = element(work, cells + 2 * r + 1)
        for v in range(0, stride, unit):
            store(work, at + v, fma(load(work, dy + r * stride + v), fraction, load(work, at + v)))
