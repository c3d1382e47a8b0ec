"""Losses and their gradients, as defined in `formulas.losses`."""

from __future__ import annotations

import functools

from .calls import call_class_loss, call_loss, callable_of, signature_of
from .declare import FLOATS, INT, INTS, MATRIX, VECTOR
from .elementwise import formula, load_some, store_some
from .jit import carray, function_pointer, inline, kernel
from .rows import (
    classwise_loss_rows,
    cross_entropy_probabilities_rows,
    cross_entropy_rows,
    plain_cross_entropy_rows,
)  # fmt: skip
from .simd import full_like, keep_first, lane_sum, lanes, load_tail

__all__ = [
    "class_term", "classwise_function", "classwise_loss", "classwise_of", "elementwise_function", "elementwise_loss",
    "elementwise_of", "elementwise_rows", "loss_formula", "way_of",
]  # fmt: skip


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
def elementwise_function(kind):
    """Return the function by address of a loss that sums over elements, see `elementwise_loss`."""
    function = loss_formula(kind)

    @function_pointer.made_with(kind, arguments=signature_of("real", "real", "real", "float64", "real", "real", "real"))
    def loss(
        x, target, column_weight, numbers, row_scale, losses, dx,
        size, size_of_target, columns_of_weight, count, rows, rows_of_losses, size_of_dx,
    ):  # fmt: skip
        columns, n = size // rows if rows > 0 else 0, carray(numbers, 2)
        elementwise_rows(
            function, carray(x, (rows, columns)), carray(target, (rows, columns)),
            carray(column_weight, columns_of_weight), n[0], n[1], carray(row_scale, rows),
            carray(losses, rows_of_losses), carray(dx, (rows if size_of_dx > 0 else 0, columns)),
        )  # fmt: skip

    return loss


@functools.cache
def elementwise_of(kind, itemsize):
    """Return the first argument of `elementwise_loss` for a loss."""

    def python(function, x, target, column_weight, numbers, row_scale, losses, dx):
        elementwise_rows(function, x, target, column_weight, numbers[0], numbers[1], row_scale, losses, dx)

    return callable_of(elementwise_function(kind), functools.partial(python, loss_formula(kind)), itemsize)


@kernel(INT, MATRIX, MATRIX, VECTOR, FLOATS, VECTOR, VECTOR, MATRIX)
def elementwise_loss(function, x, target, column_weight, numbers, row_scale, losses, dx):
    """Compute a loss: x, target, dx (N, O); row_scale, losses (N,); column_weight (O,); ``numbers`` are its a and b.

    column_weight (default: ones), losses and dx may be empty. ``function`` is a result of `elementwise_of`.
    """
    call_loss(function, x, target, column_weight, numbers, row_scale, losses, dx)


# ---------------------------------------------------------------------------- losses of classes
# Each function computes a loss of all rows; ``term`` is that of `class_term`.


@inline
def _plain(term, x, index, soft, weight, smoothing, a, scale, losses, dx, scratch):
    plain_cross_entropy_rows(x, index, scale, losses, dx, scratch[0])


@inline
def _logits(term, x, index, soft, weight, smoothing, a, scale, losses, dx, scratch):
    cross_entropy_rows(x, index, soft, weight, smoothing, scale, losses, dx, scratch)


@inline
def _probabilities(term, x, index, soft, weight, smoothing, a, scale, losses, dx, scratch):
    cross_entropy_probabilities_rows(x, index, soft, weight, smoothing, scale, losses, dx, scratch, x.dtype.type(a))


_WAYS = {"formula": classwise_loss_rows, "logits": _logits, "plain": _plain, "probabilities": _probabilities}


def way_of(kind, from_logits=True, plain=False):
    """Return the way in which `classwise_function` computes a loss.

    ``plain``: targets are class indices, without smoothing and class weights.
    """
    if kind != "cross_entropy":
        return "formula"
    if not from_logits:
        return "probabilities"
    return "plain" if plain else "logits"


@functools.cache
def classwise_function(kind, way):
    """Return the function by address of a loss of class probabilities, see `classwise_loss`."""
    term, compute = class_term(kind), _WAYS[way]

    @function_pointer.made_with(
        kind, way,
        arguments=signature_of("real", "int64", "real", "real", "float64", "real", "real", "real", "real"),
    )  # fmt: skip
    def loss(
        x, index, soft, class_weight, numbers, row_scale, losses, dx, scratch,
        size, rows_of_index, size_of_soft, classes_of_weight, count, rows, rows_of_losses, size_of_dx, size_of_scratch,
    ):  # fmt: skip
        classes, n = size // rows if rows > 0 else 0, carray(numbers, 2)
        compute(
            term, carray(x, (rows, classes)), carray(index, rows_of_index),
            carray(soft, (rows if size_of_soft > 0 else 0, classes)), carray(class_weight, classes_of_weight),
            n[0], n[1], carray(row_scale, rows), carray(losses, rows_of_losses),
            carray(dx, (rows if size_of_dx > 0 else 0, classes)), carray(scratch, (2, classes)),
        )  # fmt: skip

    return loss


@functools.cache
def classwise_of(kind, way, itemsize):
    """Return the first argument of `classwise_loss` for a loss, computed in a way of `way_of`."""

    def python(term, x, index, soft, class_weight, numbers, row_scale, losses, dx, scratch):
        _WAYS[way](term, x, index, soft, class_weight, numbers[0], numbers[1], row_scale, losses, dx, scratch)

    return callable_of(classwise_function(kind, way), functools.partial(python, class_term(kind)), itemsize)


@kernel(INT, MATRIX, INTS, MATRIX, VECTOR, FLOATS, VECTOR, VECTOR, MATRIX, MATRIX)
def classwise_loss(function, x, index, soft, class_weight, numbers, row_scale, losses, dx, scratch):
    """Compute a loss: x, dx (N, C); index (N,) or soft (N, C), the other empty; row_scale, losses (N,); scratch (2, C).

    ``numbers`` are the label smoothing and the loss's own number: of cross-entropy from probabilities, their lower
    bound. class_weight (default: ones), losses and dx may be empty. ``function`` is a result of `classwise_of`.
    """
    call_class_loss(function, x, index, soft, class_weight, numbers, row_scale, losses, dx, scratch)
