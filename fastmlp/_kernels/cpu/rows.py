"""Row-wise kernels: softmax, cross-entropy, layer normalization, input scaling, dropout.

A sum over a row first adds whole vectors in order, and then the lanes as a tree. The order is therefore fixed for a
given row width.
"""

from __future__ import annotations

import math

import numpy as np

from ..._common.philox import DROPOUT
from .declare import FLOAT, MATRIX, REAL, SOURCE, VECTOR, WORD
from .elementwise import load_some, store_some
from .jit import inline, kernel
from .random import philox_words
from .simd import (
    element,
    equal,
    fma,
    full_like,
    greater,
    keep_first,
    lane_max,
    lane_sum,
    lanes,
    load_tail,
    set_element,
    where,
)  # fmt: skip
from .vecmath import exp, scalar_log

__all__ = [
    "classwise_loss_rows", "cross_entropy_probabilities_rows", "cross_entropy_rows", "dropout", "layer_norm_backward",
    "layer_norm_forward", "layer_norm_forward_rows", "layer_norm_row_backward", "layer_norm_row_forward", "normalize",
    "normalize_row", "normalized",
    "plain_cross_entropy_rows", "softmax_backward", "softmax_backward_rows", "softmax_forward", "softmax_forward_rows",
]  # fmt: skip


@inline
def _row_max(x, start, columns):
    width = lanes(x)
    largest = keep_first(load_tail(x, start, 0), 0, -np.inf)
    for c in range(0, columns, width):
        count = min(width, columns - c)
        v = keep_first(load_some(x, start + c, count), count, -np.inf)
        largest = where(greater(v, largest), v, largest)
    return lane_max(largest)


@inline
def _exponentials(x, start, columns, largest, out, at):
    """Write exp(x - largest) of the row at ``start`` to ``out`` from ``at`` on, and return their sum."""
    width = lanes(x)
    total = load_tail(x, start, 0)
    for c in range(0, columns, width):
        count = min(width, columns - c)
        e = keep_first(exp(load_some(x, start + c, count) - largest), count, 0.0)
        store_some(out, at + c, e, count)
        total = total + e
    return lane_sum(total)


@inline
def softmax_forward_rows(x, out):
    """Compute the softmax of each row, see `reference.softmax_forward`; x, out (N, C)."""
    rows, columns = x.shape
    width = lanes(x)
    for r in range(rows):
        start = r * columns
        total = _exponentials(x, start, columns, _row_max(x, start, columns), out, start)
        for c in range(0, columns, width):
            count = min(width, columns - c)
            store_some(out, start + c, load_some(out, start + c, count) / total, count)


@kernel(MATRIX, MATRIX)
def softmax_forward(x, out):
    softmax_forward_rows(x, out)


@inline
def softmax_backward_rows(dy, y, dx):
    """Compute the gradient of softmax, see `reference.softmax_backward`; dy, y, dx (N, C)."""
    rows, columns = y.shape
    width = lanes(y)
    for r in range(rows):
        start = r * columns
        inner = load_tail(y, start, 0)
        for c in range(0, columns, width):
            count = min(width, columns - c)
            inner = inner + load_some(dy, start + c, count) * load_some(y, start + c, count)
        mean = lane_sum(inner)
        for c in range(0, columns, width):
            count = min(width, columns - c)
            v = load_some(y, start + c, count) * (load_some(dy, start + c, count) - mean)
            store_some(dx, start + c, v, count)


@kernel(MATRIX, MATRIX, MATRIX)
def softmax_backward(dy, y, dx):
    softmax_backward_rows(dy, y, dx)


# ---------------------------------------------------------------------------------- cross-entropy


@inline
def _target_weights(row, index, soft, class_weight, smoothing, start, weights):
    """Write w_j t'_ij of one row to ``weights (C,)``, see `reference.cross_entropy`; return their sum."""
    classes, width = weights.size, lanes(weights)
    keep, share = 1.0 - smoothing, smoothing / classes
    for c in range(0, classes, width):
        count = min(width, classes - c)
        if index.size > 0:
            t = full_like(load_tail(weights, c, 0), share)
        else:
            t = fma(load_some(soft, start + c, count), keep, share)
        store_some(weights, c, t, count)
    if index.size > 0:
        set_element(weights, index[row], keep + share)
    total = load_tail(weights, 0, 0)
    for c in range(0, classes, width):
        count = min(width, classes - c)
        t = load_some(weights, c, count)
        if class_weight.size > 0:
            t = t * load_some(class_weight, c, count)
            store_some(weights, c, t, count)
        total = total + t
    return lane_sum(total)


@inline
def plain_cross_entropy_rows(x, index, row_scale, losses, dx, exponentials):
    """Compute `cross_entropy_rows` for class indices without smoothing and weights: the same bits in less time.

    ``exponentials (C,)`` is scratch.
    """
    rows, classes = x.shape
    width = lanes(x)
    for i in range(rows):
        start, right = i * classes, index[i]
        largest = _row_max(x, start, classes)
        sum_of_exponentials = _exponentials(x, start, classes, largest, exponentials, 0)
        if losses.size > 0:
            losses[i] = row_scale[i] * (scalar_log(sum_of_exponentials, x) - (element(x, start + right) - largest))
        if dx.size > 0:
            p = element(exponentials, right) / sum_of_exponentials
            for c in range(0, classes, width):
                count = min(width, classes - c)
                q = load_some(exponentials, c, count) / sum_of_exponentials
                store_some(dx, start + c, q * row_scale[i], count)
            set_element(dx, start + right, (p - x.dtype.type(1)) * row_scale[i])


@inline
def cross_entropy_rows(x, index, soft, class_weight, smoothing, row_scale, losses, dx, scratch):
    """Compute `reference.cross_entropy` of x (N, C) with int64 index (N,) or, if index is empty, soft (N, C).

    class_weight (default: ones), losses and dx may be empty. ``scratch (2, C)`` holds a row's exponentials and target
    weights.
    """
    rows, classes = x.shape
    width = lanes(x)
    exponentials, weights = scratch[0], scratch[1]
    for i in range(rows):
        start = i * classes
        sum_of_weights = _target_weights(i, index, soft, class_weight, smoothing, start, weights)
        largest = _row_max(x, start, classes)
        sum_of_exponentials = _exponentials(x, start, classes, largest, exponentials, 0)
        if losses.size > 0:
            log_total = scalar_log(sum_of_exponentials, x)
            loss = load_tail(x, start, 0)
            for c in range(0, classes, width):
                count = min(width, classes - c)
                w = load_some(weights, c, count)
                term = w * (log_total - (load_some(x, start + c, count) - largest))
                # Mask terms with target 0: a logit of -inf would give 0 * inf = NaN there.
                loss = loss + where(equal(w, 0.0), w, term)
            losses[i] = row_scale[i] * lane_sum(loss)
        if dx.size > 0:
            for c in range(0, classes, width):
                count = min(width, classes - c)
                p = load_some(exponentials, c, count) / sum_of_exponentials
                gradient = (p * sum_of_weights - load_some(weights, c, count)) * row_scale[i]
                store_some(dx, start + c, gradient, count)


@inline
def classwise_loss_rows(term, x, index, soft, class_weight, smoothing, a, row_scale, losses, dx, scratch):
    """Compute `cross_entropy_rows` with ``term(log_p, a)`` instead of -log p, see `reference.classwise_loss`."""
    rows, classes = x.shape
    width = lanes(x)
    exponentials, gradients = scratch[0], scratch[1]
    for i in range(rows):
        start = i * classes
        _target_weights(i, index, soft, class_weight, smoothing, start, gradients)
        largest = _row_max(x, start, classes)
        sum_of_exponentials = _exponentials(x, start, classes, largest, exponentials, 0)
        log_total = scalar_log(sum_of_exponentials, x)
        loss, total = load_tail(x, start, 0), load_tail(x, start, 0)
        for c in range(0, classes, width):
            count = min(width, classes - c)
            w = load_some(gradients, c, count)
            value, derivative = term(load_some(x, start + c, count) - largest - log_total, a)
            nothing = equal(w, 0.0)
            gradient = where(nothing, w, w * derivative)
            store_some(gradients, c, gradient, count)
            total = total + gradient
            loss = loss + where(nothing, w, w * value)
        if losses.size > 0:
            losses[i] = row_scale[i] * lane_sum(loss)
        if dx.size > 0:
            sum_of_gradients = lane_sum(total)
            for c in range(0, classes, width):
                count = min(width, classes - c)
                p = load_some(exponentials, c, count) / sum_of_exponentials
                store_some(dx, start + c, (load_some(gradients, c, count) - p * sum_of_gradients) * row_scale[i], count)


@inline
def cross_entropy_probabilities_rows(x, index, soft, class_weight, smoothing, row_scale, losses, dx, scratch, floor):
    """Compute `cross_entropy` from probabilities x (N, C) clamped at ``floor``."""
    rows, classes = x.shape
    weights = scratch[1]
    for i in range(rows):
        _target_weights(i, index, soft, class_weight, smoothing, i * classes, weights)
        loss = x.dtype.type(0)
        for j in range(classes):
            p = x[i, j] if not x[i, j] < floor else floor
            loss -= weights[j] * scalar_log(p, x)
            if dx.size > 0:
                dx[i, j] = row_scale[i] * (-weights[j] / p)
        if losses.size > 0:
            losses[i] = row_scale[i] * loss


# ------------------------------------------------------------------- normalization and dropout


@inline
def layer_norm_row_forward(x, start, columns, weight, bias, eps, out):
    """Write the layer normalization of the row at ``start`` to the same place of ``out``; return its mean and rstd."""
    width = lanes(x)
    total = load_tail(x, start, 0)
    for c in range(0, columns, width):
        total = total + load_some(x, start + c, min(width, columns - c))
    centre = lane_sum(total) / x.dtype.type(columns)
    squares = load_tail(x, start, 0)
    for c in range(0, columns, width):
        count = min(width, columns - c)
        d = load_some(x, start + c, count) - centre
        if count < width:
            d = keep_first(d, count, 0.0)
        squares = fma(d, d, squares)
    variance = lane_sum(squares) / x.dtype.type(columns)
    scale = x.dtype.type(1) / math.sqrt(variance + x.dtype.type(eps))
    for c in range(0, columns, width):
        count = min(width, columns - c)
        z = (load_some(x, start + c, count) - centre) * scale
        if weight.size > 0:
            z = fma(z, load_some(weight, c, count), load_some(bias, c, count))
        store_some(out, start + c, z, count)
    return centre, scale


@inline
def layer_norm_forward_rows(x, weight, bias, eps, mean, rstd, out):
    """Compute `reference.layer_norm_forward`; x, out (N, C); mean, rstd (N,); weight, bias (C,) or both empty."""
    rows, columns = x.shape
    for r in range(rows):
        mean[r], rstd[r] = layer_norm_row_forward(x, r * columns, columns, weight, bias, eps, out)


@kernel(MATRIX, VECTOR, VECTOR, FLOAT, VECTOR, VECTOR, MATRIX)
def layer_norm_forward(x, weight, bias, eps, mean, rstd, out):
    layer_norm_forward_rows(x, weight, bias, eps, mean, rstd, out)


@inline
def normalized(x, mean, rstd):
    """Return z, the normalized values of a vector of a row's inputs."""
    return (x - mean) * rstd


@inline
def layer_norm_row_backward(place, read, write, dy, x, dx, offsets, rows, columns, r, weight, weight_at, mean, rstd):
    """Compute dx of row ``r``, see `reference.layer_norm_backward`, for matrices in any layout.

    ``offsets`` are those of the matrices dy, x and dx (rows, columns) in the arrays. ``place`` is a function such as
    `panels.offset_of`; ``read`` and ``write`` are functions such as `load_some` and `store_some`. The weight begins at
    ``weight_at``, -1 for none.
    """
    dy_at, x_at, dx_at = offsets
    width = lanes(x)
    total, product = load_tail(x, 0, 0), load_tail(x, 0, 0)
    for c in range(0, columns, width):
        count = min(width, columns - c)
        z = normalized(read(x, place(x, x_at, rows, columns, r, c), count), mean, rstd)
        g = read(dy, place(dy, dy_at, rows, columns, r, c), count)  # zero after the row's end
        if weight_at >= 0:
            g = g * read(weight, weight_at + c, count)
        total = total + g
        product = fma(g, z, product)
    mean_g = lane_sum(total) / x.dtype.type(columns)
    mean_gz = lane_sum(product) / x.dtype.type(columns)
    for c in range(0, columns, width):
        count = min(width, columns - c)
        z = normalized(read(x, place(x, x_at, rows, columns, r, c), count), mean, rstd)
        g = read(dy, place(dy, dy_at, rows, columns, r, c), count)
        if weight_at >= 0:
            g = g * read(weight, weight_at + c, count)
        write(dx, place(dx, dx_at, rows, columns, r, c), (g - mean_g - z * mean_gz) * rstd, count)


@inline
def _row_major(a, offset, rows, width, row, column):
    return offset + row * width + column


@kernel(MATRIX, MATRIX, VECTOR, VECTOR, VECTOR, MATRIX, VECTOR, VECTOR)
def layer_norm_backward(dy, x, weight, mean, rstd, dx, dweight, dbias):
    """Compute `reference.layer_norm_backward`.

    dy, x, dx (N, C); mean, rstd (N,); weight, dweight, dbias (C,) or all three empty.
    """
    rows, columns = x.shape
    width = lanes(x)
    dweight[:] = 0
    dbias[:] = 0
    for r in range(rows):
        start = r * columns
        if weight.size > 0:
            for c in range(0, columns, width):
                count = min(width, columns - c)
                z, g = normalized(load_some(x, start + c, count), mean[r], rstd[r]), load_some(dy, start + c, count)
                store_some(dweight, c, fma(g, z, load_some(dweight, c, count)), count)
                store_some(dbias, c, g + load_some(dbias, c, count), count)
        layer_norm_row_backward(
            _row_major, load_some, store_some, dy, x, dx, (0, 0, 0), rows, columns, r, weight,
            0 if weight.size > 0 else -1, mean[r], rstd[r],
        )  # fmt: skip


@inline
def normalize_row(x, start, columns, mean, scale):
    """Compute x = (x - mean) / scale for the row at ``start``."""
    width = lanes(x)
    for c in range(0, columns, width):
        count = min(width, columns - c)
        divisor = load_some(scale, c, count)
        if count < width:
            divisor = keep_first(divisor, count, 1.0)
        store_some(x, start + c, (load_some(x, start + c, count) - load_some(mean, c, count)) / divisor, count)


@kernel(SOURCE, VECTOR, VECTOR, MATRIX)
def normalize(x, mean, scale, out):
    """Compute out (N, I) = (x - mean) / scale; x (N, I) has any real dtype, mean and scale (I,) have out's."""
    rows, columns = out.shape
    for r in range(rows):
        start = r * columns
        for c in range(columns):
            set_element(out, start + c, element(x, start + c))
        normalize_row(out, start, columns, mean, scale)


@kernel(MATRIX, WORD, REAL, WORD, WORD, WORD, WORD, MATRIX)
def dropout(x, threshold, scale, key0, key1, layer, step, out):
    """Compute out = x scale where the element's random word is at least ``threshold``, else 0; x, out (N, C)."""
    rows, columns = x.shape
    last = np.uint64(DROPOUT << 24) | layer
    for r in range(rows):
        for block in range((columns + 3) // 4):
            words = philox_words(np.uint64(block), np.uint64(r), step, last, key0, key1)
            start = 4 * block
            for c in range(start, min(start + 4, columns)):
                which = c - start  # a variable index of a tuple could raise an exception
                word = words[0] if which == 0 else words[1] if which == 1 else words[2] if which == 2 else words[3]
                out[r, c] = x[r, c] * scale if word >= threshold else x.dtype.type(0)
