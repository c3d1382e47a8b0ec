"""Operations of a step other than products, as functions that the engine calls by address.

Each function is f(work, weights, table, numbers, first, last, extra) on pointers. ``table`` and ``numbers`` are the
operation's rows of `table`'s arrays; first .. last are the rows of the batch. ``extra`` is the number of the step in
this run, or the panel's first column for functions of one panel. Functions of rows copy each row from its panels to
scratch and apply the row kernels of the module API, which gives the same formulas in the same order.
"""

from __future__ import annotations

import functools

from ..._common.philox import DROPOUT
from .calls import call_activation, call_activation_backward
from .jit import carray, function_pointer, inline
from .native import bytes_at, integers_at, numbers_at, pointer, reals_at, singles_at, will_need
from .panels import offset_of, panel_stride
from .random import WORDS, keep_at_least, random_words
from .rows import (
    layer_norm_forward_rows,
    layer_norm_row_backward,
    normalized,
    softmax_backward_rows,
    softmax_forward_rows,
)  # fmt: skip
from .simd import element, fma, keep_first, lanes, load, load_as, load_tail, set_element, store, store_tail
from .table import (
    ACTIVATION,
    BIAS_OFFSET,
    BOUNDS,
    CAPACITY,
    COUNTS,
    DERIVATIVE,
    DX,
    DY,
    IN,
    KEY,
    LAYER,
    MEAN,
    MEANS,
    ORDER,
    OUT,
    PAGE,
    PRE,
    ROW_SIZE,
    RSTDS,
    SCALE,
    SCRATCH,
    SHARES,
    SHIFTS,
    SOURCE,
    SOURCE_ROW,
    STEPS,
    TARGET,
    THRESHOLD,
    WEIGHT,
    WEIGHT_OFFSET,
    X,
    Y,
)  # fmt: skip

__all__ = [
    "ALL", "POINTERS", "activation_backward", "activation_forward", "clear_last", "copy_in", "copy_out",
    "dropout_backward", "dropout_forward", "emit", "first_and_end", "gather", "layer_norm_backward",
    "layer_norm_forward", "layer_norm_gradient", "mixing", "normalize_backward", "normalize_forward", "pack_rows",
    "read_ahead", "row_at", "softmax_backward", "softmax_forward",
]  # fmt: skip

ALL = 1 << 48  # placeholder shape of arrays made from pointers; never read

POINTERS = {"uint8": bytes_at, "float32": singles_at, "float64": numbers_at}


@inline
def row_at(a, at, width):
    """Return a[at : at + width] as a matrix of one row."""
    return carray(pointer(a, at), (1, width))


@inline
def pack_rows(r0, r1):
    """Return the range r0 .. r1 of rows of a batch as one integer."""
    return (r0 << 32) | r1


@inline
def first_and_end(packed):
    """Return (r0, r1) of `pack_rows`."""
    return packed >> 32, packed & 0xFFFFFFFF


@inline
def copy_out(a, offset, rows, width, row, b, to):
    """Copy one row of a matrix in panels to b[to ..], in whole vectors."""
    unit = lanes(a)
    for c in range(0, width, unit):
        store(b, to + c, load(a, offset_of(a, offset, rows, width, row, c)))


@inline
def copy_in(b, at, a, offset, rows, width, row):
    """Copy b[at .. at + width] to one row of a matrix in panels, followed by zeros."""
    unit = lanes(a)
    for c in range(0, width, unit):
        v = load(b, at + c)
        if width - c < unit:
            v = keep_first(v, width - c, 0.0)
        store(a, offset_of(a, offset, rows, width, row, c), v)


@inline
def clear_last(a, at, rows, stride, filled):
    """Zero the padding in the last vector of each row of a panel at ``at``."""
    unit = lanes(a)
    if filled < stride:
        for i in range(at + stride - unit, at + rows * stride, stride):
            store(a, i, keep_first(load(a, i), filled - (stride - unit), 0.0))


@inline
def mixing(table, step, n, r):
    """Return (share of row ``r`` of a batch of ``n``, its mixing partner's row) at a step of this run."""
    share = carray(numbers_at(table[SHARES]), ALL)[step]
    other = r + carray(integers_at(table[SHIFTS]), ALL)[step]
    return share, other - n if other >= n else other


# ------------------------------------------------------------------------------- gather and emit


@inline
def read_ahead(data, table, order, bounds, first, last, extra):
    """Tell the system to read the rows of the next batch ahead, if the data set is in a file."""
    if extra + 1 < table[STEPS]:
        ahead, row = bounds[extra + 1], table[SOURCE_ROW]
        for r in range(ahead + first, min(ahead + last, bounds[extra + 2])):
            will_need(table[SOURCE] + order[r] * row * data.itemsize, table[OUT] * data.itemsize, table[PAGE])


@functools.cache
def gather(source):
    """Return the function that copies the rows of a batch, normalized by mean and scale, to panels."""
    pointer = POINTERS[source]

    @function_pointer.made_with(source)
    def gather_rows(work_p, weights_p, table_p, numbers_p, first, last, extra):
        work, weights, table = carray(work_p, ALL), carray(weights_p, ALL), carray(table_p, ALL)
        order, bounds = carray(integers_at(table[ORDER]), ALL), carray(integers_at(table[BOUNDS]), ALL)
        data = carray(pointer(table[SOURCE]), ALL)
        width, rows, step, unit = table[OUT], table[CAPACITY], table[SOURCE_ROW], lanes(work)
        mean, scale, batch = table[MEAN], table[SCALE], bounds[extra]
        read_ahead(data, table, order, bounds, first, last, extra)
        whole = width - width % (2 * unit)
        # Blocks of rows make the writes to each panel contiguous.
        for block in range(first, last, 8):
            stop = min(block + 8, last)
            for column in range(0, whole, 2 * unit):
                to = table[Y] + column * rows + block * 2 * unit
                for r in range(block, stop):
                    at = order[batch + r] * step + column
                    u, v = load_as(data, at, work), load_as(data, at + unit, work)
                    if mean >= 0:
                        u, v = u - load(weights, mean + column), v - load(weights, mean + column + unit)
                    if scale >= 0:
                        u, v = u / load(weights, scale + column), v / load(weights, scale + column + unit)
                    store(work, to, u)
                    store(work, to + unit, v)
                    to += 2 * unit
            for column in range(whole, width, unit):
                filled = min(unit, width - column)
                for r in range(block, stop):
                    at = order[batch + r] * step + column
                    to = offset_of(work, table[Y], rows, width, r, column)
                    if filled == unit:
                        v = load_as(data, at, work)
                    else:  # memory after the row's end may not be readable
                        store(work, to, load_tail(work, 0, 0))
                        for j in range(filled):
                            set_element(work, to + j, element(data, at + j))
                        v = load(work, to)
                    if mean >= 0:
                        v = v - load(weights, mean + column)
                    if scale >= 0:
                        v = v / keep_first(load(weights, scale + column), filled, 1.0)
                    store(work, to, v)

    return gather_rows


@function_pointer
def emit(work_p, weights_p, table_p, numbers_p, first, last, extra):
    """Copy the outputs of the batch to a row-major array."""
    work, table = carray(work_p, ALL), carray(table_p, ALL)
    bounds, out = carray(integers_at(table[BOUNDS]), ALL), carray(reals_at(table[TARGET], work_p), ALL)
    width, rows, unit = table[IN], table[CAPACITY], lanes(work)
    for r in range(first, last):
        to = (bounds[extra] + r) * width
        for c in range(0, width, unit):
            v = load(work, offset_of(work, table[X], rows, width, r, c))
            if width - c >= unit:
                store(out, to + c, v)
            else:
                store_tail(out, to + c, v, width - c)


# ------------------------------------------------------------------------------------ activations


@function_pointer
def activation_forward(work_p, weights_p, table_p, numbers_p, first, last, column):
    """Compute y = h(pre) on a panel; numbers[0] is alpha."""
    work, table = carray(work_p, ALL), carray(table_p, ALL)
    stride = panel_stride(work, table[OUT], column)
    at = column * table[CAPACITY] + first * stride
    size = (last - first) * stride
    pre, y = table[PRE] + at, table[Y] + at
    alpha = carray(numbers_p, 1)[0]
    call_activation(table[ACTIVATION], alpha, carray(pointer(work, pre), size), carray(pointer(work, y), size))
    clear_last(work, y, last - first, stride, table[OUT] - column)


@function_pointer
def activation_backward(work_p, weights_p, table_p, numbers_p, first, last, column):
    """Compute dx = dy h'(pre) on a panel, in place."""
    work, table = carray(work_p, ALL), carray(table_p, ALL)
    stride = panel_stride(work, table[OUT], column)
    at = column * table[CAPACITY] + first * stride
    size = (last - first) * stride
    dy, pre, y = table[DY] + at, table[PRE] + at, table[Y] + at
    gradient, alpha = carray(pointer(work, dy), size), carray(numbers_p, 1)[0]
    x, result = carray(pointer(work, pre), size), carray(pointer(work, y), size)
    call_activation_backward(table[DERIVATIVE], alpha, gradient, x, result, gradient)
    clear_last(work, dy, last - first, stride, table[OUT] - column)


# ---------------------------------------------------------------------------------- normalization


@function_pointer
def normalize_forward(work_p, weights_p, table_p, numbers_p, first, last, column):
    """Compute y = (x - mean) / scale on a panel."""
    work, weights, table = carray(work_p, ALL), carray(weights_p, ALL), carray(table_p, ALL)
    stride, unit = panel_stride(work, table[OUT], column), lanes(work)
    x, y = table[X] + column * table[CAPACITY], table[Y] + column * table[CAPACITY]
    for c in range(0, stride, unit):
        mean = load(weights, table[MEAN] + column + c)
        scale = keep_first(load(weights, table[SCALE] + column + c), table[OUT] - column - c, 1.0)
        for i in range(first * stride + c, last * stride, stride):
            store(work, y + i, (load(work, x + i) - mean) / scale)


@function_pointer
def normalize_backward(work_p, weights_p, table_p, numbers_p, first, last, column):
    """Compute dx = dy / scale on a panel, in place."""
    work, weights, table = carray(work_p, ALL), carray(weights_p, ALL), carray(table_p, ALL)
    stride, unit = panel_stride(work, table[OUT], column), lanes(work)
    dy = table[DY] + column * table[CAPACITY]
    for c in range(0, stride, unit):
        scale = keep_first(load(weights, table[SCALE] + column + c), table[OUT] - column - c, 1.0)
        for i in range(first * stride + c, last * stride, stride):
            store(work, dy + i, load(work, dy + i) / scale)


# ------------------------------------------------------------------------------ functions of rows


@function_pointer
def softmax_forward(work_p, weights_p, table_p, numbers_p, first, last, extra):
    work, table = carray(work_p, ALL), carray(table_p, ALL)
    width, rows, at = table[OUT], table[CAPACITY], table[SCRATCH] + first * table[ROW_SIZE]
    row = row_at(work, at, width)
    for r in range(first, last):
        copy_out(work, table[X], rows, width, r, work, at)
        softmax_forward_rows(row, row)
        copy_in(work, at, work, table[Y], rows, width, r)


@function_pointer
def softmax_backward(work_p, weights_p, table_p, numbers_p, first, last, extra):
    work, table = carray(work_p, ALL), carray(table_p, ALL)
    width, rows, at = table[OUT], table[CAPACITY], table[SCRATCH] + first * table[ROW_SIZE]
    to = at + table[ROW_SIZE] // 2
    y, dy = row_at(work, at, width), row_at(work, to, width)
    for r in range(first, last):
        copy_out(work, table[Y], rows, width, r, work, at)
        copy_out(work, table[DY], rows, width, r, work, to)
        softmax_backward_rows(dy, y, dy)
        copy_in(work, to, work, table[DX], rows, width, r)


@function_pointer
def layer_norm_forward(work_p, weights_p, table_p, numbers_p, first, last, extra):
    """Compute layer normalization, see `reference.layer_norm_forward`."""
    work, weights, table = carray(work_p, ALL), carray(weights_p, ALL), carray(table_p, ALL)
    width, rows, at = table[OUT], table[CAPACITY], table[SCRATCH] + first * table[ROW_SIZE]
    row = row_at(work, at, width)
    size = width if table[WEIGHT] >= 0 else 0
    weight, bias = weights[table[WEIGHT_OFFSET] :][:size], weights[table[BIAS_OFFSET] :][:size]
    for r in range(first, last):
        copy_out(work, table[X], rows, width, r, work, at)
        mean, rstd = work[table[MEANS] + r :][:1], work[table[RSTDS] + r :][:1]
        layer_norm_forward_rows(row, weight, bias, carray(numbers_p, 1)[0], mean, rstd, row)
        copy_in(work, at, work, table[Y], rows, width, r)


@inline
def _read(a, i, count):
    return load(a, i)  # panels and weights are padded to whole vectors


@inline
def _write(a, i, v, count):
    store(a, i, keep_first(v, count, 0.0))


@function_pointer
def layer_norm_backward(work_p, weights_p, table_p, numbers_p, first, last, extra):
    """Compute dx, see `reference.layer_norm_backward`; phase 2 computes the parameters' gradients."""
    work, weights, table = carray(work_p, ALL), carray(weights_p, ALL), carray(table_p, ALL)
    offsets = table[DY], table[X], table[DX]
    for r in range(first, last):
        mean, rstd = element(work, table[MEANS] + r), element(work, table[RSTDS] + r)
        layer_norm_row_backward(
            offset_of, _read, _write, work, work, work, offsets, table[CAPACITY], table[OUT], r, weights,
            table[WEIGHT_OFFSET], mean, rstd,
        )  # fmt: skip


@function_pointer
def layer_norm_gradient(work_p, weights_p, table_p, numbers_p, out, rows_of, which):
    """Write the gradient of a panel of the weight (``which`` even) or the bias (odd) to work[out].

    The panel's first column is ``which`` // 2, and ``rows_of`` gives the rows, see `first_and_end`.
    """
    r0, r1 = first_and_end(rows_of)
    work, table = carray(work_p, ALL), carray(table_p, ALL)
    width, rows, unit, column = table[OUT], table[CAPACITY], lanes(work), which // 2
    for v in range(0, panel_stride(work, width, column), unit):
        total = load_tail(work, 0, 0)
        at = offset_of(work, table[DY], rows, width, r0, column) + v
        x = offset_of(work, table[X], rows, width, r0, column) + v
        for r in range(r0, r1):
            g = load(work, at)
            if which % 2 == 0:
                z = normalized(load(work, x), element(work, table[MEANS] + r), element(work, table[RSTDS] + r))
                total = fma(g, z, total)
            else:
                total = g + total
            at += panel_stride(work, width, column)
            x += panel_stride(work, width, column)
        store(work, out + v, keep_first(total, width - column - v, 0.0))


@inline
def _drop(work, table, numbers, x, y, first, last, step):
    """Compute y = x, scaled, where the element's random word is large enough, else 0; see `reference.dropout`."""
    width, rows, unit = table[OUT], table[CAPACITY], lanes(work)
    layer = (DROPOUT << 24) | table[LAYER]
    count = carray(integers_at(table[COUNTS]), ALL)[step] & 0xFFFFFFFF
    threshold, factor = table[THRESHOLD], work.dtype.type(numbers[0])
    words = table[SCRATCH] + first * WORDS
    for r in range(first, last):
        for block in range(0, width, WORDS):
            random_words(work, words, block // 4, r, count, layer, table[KEY], table[KEY + 1])
            for c in range(block, min(block + WORDS, width), unit):
                v = load_tail(work, 0, 0)
                if threshold <= 0xFFFFFFFF:  # a larger threshold drops all elements
                    v = load(work, offset_of(work, x, rows, width, r, c)) * factor
                    v = keep_at_least(v, work, words + c - block, threshold)
                store(work, offset_of(work, y, rows, width, r, c), v)


@function_pointer
def dropout_forward(work_p, weights_p, table_p, numbers_p, first, last, extra):
    """Compute dropout, see `reference.dropout`."""
    work, table = carray(work_p, ALL), carray(table_p, ALL)
    _drop(work, table, carray(numbers_p, 1), table[X], table[Y], first, last, extra)


@function_pointer
def dropout_backward(work_p, weights_p, table_p, numbers_p, first, last, extra):
    work, table = carray(work_p, ALL), carray(table_p, ALL)
    _drop(work, table, carray(numbers_p, 1), table[DY], table[DX], first, last, extra)
