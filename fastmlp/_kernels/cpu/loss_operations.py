"""Losses that the engine calls by address, see `operations`: from rows of outputs to row losses and DX.

TARGET is the address of the targets of all rows. With mixed rows (`fastmlp.Mixup`), the target and the sample weight of
a row are mixtures too, and class indices become rows of shares. The caller provides the denominator of each batch.
"""

from __future__ import annotations

import functools

from .arithmetic import ceil_div
from .jit import carray, function_pointer, inline
from .losses import class_term, elementwise_rows, loss_formula
from .native import integers_at, numbers_at, pointer, reals_at
from .operations import ALL, copy_in, copy_out, mixing, row_at
from .panels import offset_of
from .rows import (
    classwise_loss_rows,
    cross_entropy_probabilities_rows,
    cross_entropy_rows,
    plain_cross_entropy_rows,
)
from .simd import lanes, load, load_tail, store
from .table import (
    BOUNDS,
    CAPACITY,
    CLASS_WEIGHT,
    DX,
    IN,
    LOSS_DENOMINATORS,
    ORDER,
    ROW_LOSSES,
    SAMPLE_WEIGHT,
    SCRATCH,
    TARGET,
    X,
)  # fmt: skip

__all__ = ["LOSS_SCRATCH", "classwise", "elementwise", "given_gradient"]

LOSS_SCRATCH = 6  # scratch of a loss, in rows rounded up to whole vectors


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


# --------------------------------------------------------------------------------- a row's target
# Each function returns (array of one index or none, matrix of one row or none). ``at`` is scratch.


@inline
def _own_index(table, order, batch, n, r, step, width, work, work_p, at):
    return carray(integers_at(table[TARGET]), ALL)[order[batch + r] :][:1], carray(work_p, (0, width))


@inline
def _own_row(table, order, batch, n, r, step, width, work, work_p, at):
    return order[:0], row_at(carray(reals_at(table[TARGET], work_p), ALL), order[batch + r] * width, width)


@inline
def _mixed_indices(table, order, batch, n, r, step, width, work, work_p, at):
    targets = carray(integers_at(table[TARGET]), ALL)
    share, other = mixing(table, step, n, r)
    for c in range(at, at + width):
        work[c] = 0
    work[at + targets[order[batch + r]]] = share
    work[at + targets[order[batch + other]]] += work.dtype.type(1 - share)
    return order[:0], row_at(work, at, width)


@inline
def _mixed_rows(table, order, batch, n, r, step, width, work, work_p, at):
    targets = carray(reals_at(table[TARGET], work_p), ALL)
    share, other = mixing(table, step, n, r)
    one, two = order[batch + r] * width, order[batch + other] * width
    part, rest = work.dtype.type(share), work.dtype.type(1 - share)
    for c in range(width):
        work[at + c] = part * targets[one + c] + rest * targets[two + c]
    return order[:0], row_at(work, at, width)


# ----------------------------------------------------------------------------------------- losses


@inline
def _plain_rows(term, x, index, soft, weight, smoothing, a, scale, losses, dx, scratch):
    plain_cross_entropy_rows(x, index, scale, losses, dx, scratch[0])


@inline
def _from_logits(term, x, index, soft, weight, smoothing, a, scale, losses, dx, scratch):
    cross_entropy_rows(x, index, soft, weight, smoothing, scale, losses, dx, scratch)


@inline
def _from_probabilities(term, x, index, soft, weight, smoothing, a, scale, losses, dx, scratch):
    cross_entropy_probabilities_rows(x, index, soft, weight, smoothing, scale, losses, dx, scratch, x.dtype.type(a))


def classwise(kind, from_logits, by_index, plain, mixed):
    """Return a loss of class probabilities, computed from logits X or from probabilities X.

    ``numbers`` holds the smoothing and the formula's number, or for cross-entropy of probabilities their lower clamp.
    ``by_index``: targets are int64 indices, else rows of floats. ``plain``: index targets without smoothing and class
    weights.
    """
    if kind != "cross_entropy":
        way = "formula"
    elif not from_logits:
        way = "probabilities"
    else:
        way = "plain" if by_index and plain and not mixed else "logits"
    return _classwise(kind, way, by_index, mixed)


# How a loss is computed from a row; see `_classwise`.
WAYS = {
    "formula": classwise_loss_rows, "logits": _from_logits, "plain": _plain_rows, "probabilities": _from_probabilities,
}  # fmt: skip


@functools.cache
def _classwise(kind, way, by_index, mixed):
    term, compute = class_term(kind), WAYS[way]
    if by_index:
        target = _mixed_indices if mixed else _own_index
    else:
        target = _mixed_rows if mixed else _own_row
    scale_of = _mixed_scale if mixed else _own_scale

    @function_pointer.made_with(kind, way, by_index, mixed)
    def loss(work_p, weights_p, table_p, numbers_p, first, last, extra):
        work, weights, table = carray(work_p, ALL), carray(weights_p, ALL), carray(table_p, ALL)
        order, bounds = carray(integers_at(table[ORDER]), ALL), carray(integers_at(table[BOUNDS]), ALL)
        numbers = carray(numbers_p, 2)
        width, rows, batch, n = table[IN], table[CAPACITY], bounds[extra], bounds[extra + 1] - bounds[extra]
        unit = ceil_div(width, lanes(work)) * lanes(work)
        at = table[SCRATCH] + first * LOSS_SCRATCH * unit
        x, dx = row_at(work, at, width), row_at(work, at + unit, width)
        scratch = carray(pointer(work, at + 2 * unit), (2, width))
        scale = work[at + 4 * unit :][:1]
        weight = weights[table[CLASS_WEIGHT] :][: width if table[CLASS_WEIGHT] >= 0 else 0]
        for r in range(first, last):
            index, soft = target(table, order, batch, n, r, extra, width, work, work_p, at + 5 * unit)
            scale[0] = scale_of(table, order, batch, n, r, extra)
            copy_out(work, table[X], rows, width, r, work, at)
            losses = work[table[ROW_LOSSES] + r :][:1]
            compute(term, x, index, soft, weight, numbers[0], numbers[1], scale, losses, dx, scratch)
            copy_in(work, at + unit, work, table[DX], rows, width, r)

    return loss


@functools.cache
def elementwise(kind, mixed):
    """Return a loss of single elements; ``numbers`` are its a and b; CLASS_WEIGHT holds the weights of the columns."""
    function = loss_formula(kind)
    target, scale_of = (_mixed_rows, _mixed_scale) if mixed else (_own_row, _own_scale)

    @function_pointer.made_with(kind, mixed)
    def loss(work_p, weights_p, table_p, numbers_p, first, last, extra):
        work, weights, table = carray(work_p, ALL), carray(weights_p, ALL), carray(table_p, ALL)
        order, bounds = carray(integers_at(table[ORDER]), ALL), carray(integers_at(table[BOUNDS]), ALL)
        numbers = carray(numbers_p, 2)
        width, rows, batch, n = table[IN], table[CAPACITY], bounds[extra], bounds[extra + 1] - bounds[extra]
        unit = ceil_div(width, lanes(work)) * lanes(work)
        at = table[SCRATCH] + first * LOSS_SCRATCH * unit
        x, dx = row_at(work, at, width), row_at(work, at + unit, width)
        scale = work[at + 4 * unit :][:1]
        weight = weights[table[CLASS_WEIGHT] :][: width if table[CLASS_WEIGHT] >= 0 else 0]
        for r in range(first, last):
            _, t = target(table, order, batch, n, r, extra, width, work, work_p, at + 5 * unit)
            scale[0] = scale_of(table, order, batch, n, r, extra)
            copy_out(work, table[X], rows, width, r, work, at)
            losses = work[table[ROW_LOSSES] + r :][:1]
            elementwise_rows(function, x, t, weight, numbers[0], numbers[1], scale, losses, dx)
            copy_in(work, at + unit, work, table[DX], rows, width, r)

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
