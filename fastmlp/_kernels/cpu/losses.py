"""Losses that sum over the columns of a row, with their gradients, as defined in `formulas.losses`."""

from __future__ import annotations

import functools

from .declare import FLOAT, INTS, MATRIX, VECTOR
from .elementwise import formula, load_some, store_some
from .jit import inline, kernel
from .rows import classwise_loss_rows
from .simd import full_like, keep_first, lane_sum, lanes, load_tail

__all__ = ["class_term", "classwise_loss", "elementwise_loss", "elementwise_rows", "loss_formula"]


def loss_formula(kind):
    """Return the function loss(x, t, w, a, b) of a loss, for inlining into a kernel."""
    return formula("losses", kind)["loss"]


def class_term(kind):
    """Return the function class_term(log_p, a) of a loss, for inlining into a kernel."""
    return formula("losses", kind)["class_term"]


@inline
def elementwise_rows(function, x, target, column_weight, a, b, row_scale, losses, dx):
    rows, columns = x.shape
    width = lanes(x)
    for r in range(rows):
        start = r * columns
        total = load_tail(x, start, 0)
        for c in range(0, columns, width):
            count = min(width, columns - c)
            v, t = load_some(x, start + c, count), load_some(target, start + c, count)
            if column_weight.size > 0:
                w = load_some(column_weight, c, count)
            else:
                w = full_like(v, 1.0)
            term, derivative = function(v, t, w, a, b)
            total = total + keep_first(term, count, 0.0)
            if dx.size > 0:
                store_some(dx, start + c, derivative * row_scale[r], count)
        if losses.size > 0:
            losses[r] = row_scale[r] * lane_sum(total)


@functools.cache
def elementwise_loss(kind):
    """Return the kernel of a loss: x, target, dx (N, O); row_scale, losses (N,); column_weight (O,); numbers a, b.

    column_weight (default: ones), losses and dx may be empty.
    """
    function = loss_formula(kind)

    @kernel(MATRIX, MATRIX, VECTOR, FLOAT, FLOAT, VECTOR, VECTOR, MATRIX, made_with=(kind,))
    def loss(x, target, column_weight, a, b, row_scale, losses, dx):
        elementwise_rows(function, x, target, column_weight, a, b, row_scale, losses, dx)

    return loss


@functools.cache
def classwise_loss(kind):
    """Return the kernel of a loss: x, dx (N, C); index (N,) or soft (N, C), the other empty; row_scale, losses (N,).

    class_weight (default: ones), losses and dx may be empty. ``scratch (2, C)``.
    """
    term = class_term(kind)

    @kernel(MATRIX, INTS, MATRIX, VECTOR, FLOAT, FLOAT, VECTOR, VECTOR, MATRIX, MATRIX, made_with=(kind,))
    def loss(x, index, soft, class_weight, smoothing, a, row_scale, losses, dx, scratch):
        classwise_loss_rows(term, x, index, soft, class_weight, smoothing, a, row_scale, losses, dx, scratch)

    return loss
