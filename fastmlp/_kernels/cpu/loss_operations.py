"""Losses that the engine calls by address, see `operations`: from rows of outputs to row losses and DX.

TARGET is the address of the targets of all rows. With mixed rows (`fastmlp.Mixup`), the target and the sample weight of
a row are mixtures too, and class indices become rows of shares. The caller provides the denominator of each batch.
"""

from __future__ import annotations

import functools

from .arithmetic import ceil_div
from .calls import call_class_loss, call_loss
from .elementwise import load_some, store_some
from .jit import carray, function_pointer, inline
from .native import as_integers, integers_at, numbers_at, pointer, reals_at
from .operations import ALL, copy_in, copy_out, mixing
from .panels import offset_of
from .simd import lanes, load, load_tail, store
from .table import (
    BOUNDS,
    CAPACITY,
    CLASS_WEIGHT,
    DX,
    IN,
    LOSS,
    LOSS_DENOMINATORS,
    ORDER,
    ROW_LOSSES,
    SAMPLE_WEIGHT,
    SCRATCH,
    TARGET,
    X,
)  # fmt: skip

__all__ = ["LOSS_SCRATCH", "classwise", "elementwise", "given_gradient"]

LOSS_SCRATCH = 7  # scratch of a loss for each row, in rows rounded up to whole vectors
_MOST_ROWS = 8  # rows for which a loss's function is called at once


# --------------------------------------------------------------------------------- a row's weight


@inline
def _weight(table, row):
    if table[SAMPLE_WEIGHT] == 0:
        return 1.0
    return carray(numbers_at(table[SAMPLE_WEIGHT]), ALL)[row]


@inline
def _own_scale(table, order, batch, n, r, step):
    """Return (sample weight or 1) / loss denominator of a row of the batch."""
    return _weight(table, order[batch + r]) / carray(numbers_at(table[LOSS_DENOMINATORS]), ALL)[step]


@inline
def _mixed_scale(table, order, batch, n, r, step):
    share, other = mixing(table, step, n, r)
    weight = share * _weight(table, order[batch + r]) + (1 - share) * _weight(table, order[batch + other])
    return weight / carray(numbers_at(table[LOSS_DENOMINATORS]), ALL)[step]


# ------------------------------------------------------------------------------- targets of a row
# Each function writes the target of row ``r`` of the batch: a class index to ``index``, or numbers to work[at ..].


@inline
def _own_index(table, order, batch, n, r, step, width, work, work_p, index, at):
    index[0] = carray(integers_at(table[TARGET]), ALL)[order[batch + r]]


@inline
def _own_row(table, order, batch, n, r, step, width, work, work_p, index, at):
    targets, start, unit = carray(reals_at(table[TARGET], work_p), ALL), order[batch + r] * width, lanes(work)
    for c in range(0, width, unit):
        count = min(unit, width - c)
        store_some(work, at + c, load_some(targets, start + c, count), count)


@inline
def _mixed_indices(table, order, batch, n, r, step, width, work, work_p, index, at):
    targets = carray(integers_at(table[TARGET]), ALL)
    share, other = mixing(table, step, n, r)
    for c in range(at, at + width):
        work[c] = 0
    work[at + targets[order[batch + r]]] = share
    work[at + targets[order[batch + other]]] += work.dtype.type(1 - share)


@inline
def _mixed_rows(table, order, batch, n, r, step, width, work, work_p, index, at):
    targets = carray(reals_at(table[TARGET], work_p), ALL)
    share, other = mixing(table, step, n, r)
    one, two = order[batch + r] * width, order[batch + other] * width
    part, rest = work.dtype.type(share), work.dtype.type(1 - share)
    for c in range(width):
        work[at + c] = part * targets[one + c] + rest * targets[two + c]


# ----------------------------------------------------------------------------------------- losses
# An operation copies a few rows from their panels to scratch and calls the function of the loss, whose address is in
# LOSS; numbers are that function's.


def _target(by_index, mixed):
    if by_index:
        return _mixed_indices if mixed else _own_index
    return _mixed_rows if mixed else _own_row


@functools.cache
def classwise(by_index, mixed):
    """Return the operation of a loss of class probabilities; ``by_index``: targets are int64 indices, else rows."""
    target, scale_of = _target(by_index, mixed), _mixed_scale if mixed else _own_scale
    takes_index = by_index and not mixed

    @function_pointer.made_with(by_index, mixed)
    def loss(work_p, weights_p, table_p, numbers_p, first, last, extra):
        work, weights, table = carray(work_p, ALL), carray(weights_p, ALL), carray(table_p, ALL)
        order, bounds = carray(integers_at(table[ORDER]), ALL), carray(integers_at(table[BOUNDS]), ALL)
        numbers = carray(numbers_p, 2)
        width, rows, batch, n = table[IN], table[CAPACITY], bounds[extra], bounds[extra + 1] - bounds[extra]
        unit, most = ceil_div(width, lanes(work)) * lanes(work), min(_MOST_ROWS, last - first)
        at = table[SCRATCH] + first * LOSS_SCRATCH * unit
        at_dx, at_soft = at + most * unit, at + 2 * most * unit
        scratch = carray(pointer(work, at + 3 * most * unit), (2, width))
        scale = work[at + (3 * most + 2) * unit :]
        index = carray(as_integers(pointer(work, at + (4 * most + 2) * unit)), most)
        weight = weights[table[CLASS_WEIGHT] :][: width if table[CLASS_WEIGHT] >= 0 else 0]
        for block in range(first, last, _MOST_ROWS):
            count = min(_MOST_ROWS, last - block)
            for k in range(count):
                r = block + k
                target(table, order, batch, n, r, extra, width, work, work_p, index[k:], at_soft + k * width)
                scale[k] = scale_of(table, order, batch, n, r, extra)
                copy_out(work, table[X], rows, width, r, work, at + k * width)
            x, dx = carray(pointer(work, at), (count, width)), carray(pointer(work, at_dx), (count, width))
            soft = carray(pointer(work, at_soft), (0 if takes_index else count, width))
            losses = work[table[ROW_LOSSES] + block :][:count]
            call_class_loss(
                table[LOSS], x, index[: count if takes_index else 0], soft, weight, numbers, scale[:count], losses, dx,
                scratch,
            )  # fmt: skip
            for k in range(count):
                copy_in(work, at_dx + k * width, work, table[DX], rows, width, block + k)

    return loss


@functools.cache
def elementwise(mixed):
    """Return the operation of a loss that sums over elements; CLASS_WEIGHT holds the weights of the columns."""
    target, scale_of = _target(False, mixed), _mixed_scale if mixed else _own_scale

    @function_pointer.made_with(mixed)
    def loss(work_p, weights_p, table_p, numbers_p, first, last, extra):
        work, weights, table = carray(work_p, ALL), carray(weights_p, ALL), carray(table_p, ALL)
        order, bounds = carray(integers_at(table[ORDER]), ALL), carray(integers_at(table[BOUNDS]), ALL)
        numbers = carray(numbers_p, 2)
        width, rows, batch, n = table[IN], table[CAPACITY], bounds[extra], bounds[extra + 1] - bounds[extra]
        unit, most = ceil_div(width, lanes(work)) * lanes(work), min(_MOST_ROWS, last - first)
        at = table[SCRATCH] + first * LOSS_SCRATCH * unit
        at_dx, at_target, scale = at + most * unit, at + 2 * most * unit, work[at + 3 * most * unit :]
        weight = weights[table[CLASS_WEIGHT] :][: width if table[CLASS_WEIGHT] >= 0 else 0]
        for block in range(first, last, _MOST_ROWS):
            count = min(_MOST_ROWS, last - block)
            for k in range(count):
                r = block + k
                target(table, order, batch, n, r, extra, width, work, work_p, order, at_target + k * width)
                scale[k] = scale_of(table, order, batch, n, r, extra)
                copy_out(work, table[X], rows, width, r, work, at + k * width)
            shape = (count, width)
            x, dx = carray(pointer(work, at), shape), carray(pointer(work, at_dx), shape)
            t, losses = carray(pointer(work, at_target), shape), work[table[ROW_LOSSES] + block :][:count]
            call_loss(table[LOSS], x, t, weight, numbers, scale[:count], losses, dx)
            for k in range(count):
                copy_in(work, at_dx + k * width, work, table[DX], rows, width, block + k)

    return loss


@function_pointer
def given_gradient(work_p, weights_p, table_p, numbers_p, first, last, extra):
    """Copy the gradient of the outputs, which the caller computed, from TARGET's rows to DX.

    The losses of the rows are 0, or NaN where the gradient is not finite, so that no update follows.
    """
    work, table = carray(work_p, ALL), carray(table_p, ALL)
    order, bounds = carray(integers_at(table[ORDER]), ALL), carray(integers_at(table[BOUNDS]), ALL)
    given = carray(reals_at(table[TARGET], work_p), ALL)
    width, rows, unit, batch = table[IN], table[CAPACITY], lanes(work), bounds[extra]
    for r in range(first, last):
        at, total = order[batch + r] * width, work.dtype.type(0)
        for c in range(0, width, unit):
            if width - c >= unit:
                v = load(given, at + c)
            else:
                v = load_tail(given, at + c, width - c)
            store(work, offset_of(work, table[DX], rows, width, r, c), v)
        for c in range(width):
            total += given[at + c] * work.dtype.type(0)
        work[table[ROW_LOSSES] + r] = total
