"""Numba backend: the operations of `reference`, under the same names, over compiled kernels.

Compiled kernels take contiguous, writeable arrays of one dtype and no None, so each kernel has one version per dtype.
This module replaces None by an empty array and copies arrays of other layouts.
"""

from __future__ import annotations

import math
import threading

import numpy as np

from ..formulas.optimizers import MOST_NUMBERS, MOST_STATES
from ..reference import empty, from_numpy, probability_floor, to_numpy, zeros
from . import binned, columns, elementwise, linear, rows, updates
from . import losses as loss_kernels
from .gemm import PANEL_BYTES

__all__ = [
    "activation_backward", "activation_forward", "add_scaled", "binned_linear_backward", "binned_linear_forward",
    "classwise_loss", "clip", "columns_backward",
    "columns_forward", "cross_entropy", "cross_entropy_probabilities", "dropout", "elementwise_loss", "empty",
    "from_numpy", "layer_norm_backward", "layer_norm_forward", "linear_activation_forward", "linear_backward",
    "linear_forward", "normalize", "optimizer_update", "scale", "softmax_backward", "softmax_forward",
    "sum_of_squares", "to_numpy", "zeros",
]  # fmt: skip

name = "numba"

_NO_TARGETS = np.empty(0, np.int64)
# Keyed by itemsize, because hashing a dtype costs more than the rest of a look-up.
_NONE = {np.dtype(t).itemsize: (np.empty(0, t), np.empty((0, 0), t)) for t in (np.float32, np.float64)}
_LOW = 0xFFFFFFFF


class _Scratch(threading.local):
    """Scratch buffers of the calling thread."""

    def __init__(self) -> None:
        self.packed = {size: _aligned(PANEL_BYTES, empty.dtype) for size, (empty, _) in _NONE.items()}


def _aligned(size, dtype):
    """Return ``size`` bytes that start on a cache line, as an array of ``dtype``."""
    raw = np.empty(size + 64, np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start : start + size].view(dtype)


_scratch = _Scratch()


def _plain(a):
    """Return the array itself if a kernel can take it, else a contiguous copy."""
    return a if a.flags.carray else np.array(a, order="C")


def _vector(a, like):
    return _NONE[like.itemsize][0] if a is None else _plain(a)


def _matrix(a, like):
    return _NONE[like.itemsize][1] if a is None else a


# ----------------------------------------------------------------------------------------- linear


def linear_forward(x, weight, bias, out):
    size = out.itemsize
    x, weight, bias = _inputs(x, weight, bias, size)
    linear.linear_forward(x, weight, bias, out, _scratch.packed[size], 1)


def linear_activation_forward(x, weight, bias, kind, alpha, pre, out):
    size = out.itemsize
    x, weight, bias = _inputs(x, weight, bias, size)
    linear.linear_activation_forward(
        x, weight, bias, elementwise.forward_of(kind, size), float(alpha), out if pre is None else pre, out,
        _scratch.packed[size], 1,
    )  # fmt: skip


def _inputs(x, weight, bias, size):
    """Return the inputs in the form that a kernel takes.

    One condition checks all arrays, because a call costs as much as the checks.
    """
    if bias is None:
        bias = _NONE[size][0]
    if not (x.flags.carray and weight.flags.carray and bias.flags.carray):
        return _plain(x), _plain(weight), _plain(bias)
    return x, weight, bias


def linear_backward(dy, x, weight, dx, dweight, dbias):
    size = dweight.itemsize
    if not (dy.flags.carray and x.flags.carray and weight.flags.carray):  # as in `_inputs`
        dy, x, weight = _plain(dy), _plain(x), _plain(weight)
    vector, matrix = _NONE[size]
    linear.linear_backward(
        dy,
        x,
        weight,
        matrix if dx is None else dx,
        dweight,
        vector if dbias is None else dbias,
        _scratch.packed[size],
        1,
    )


def binned_linear_forward(x, bins, weight, table, bias, out):
    size, shape = out.itemsize, table.shape[::-1]
    binned.binned_linear_forward(
        _plain(x), bins, _plain(weight), _plain(table), _vector(bias, out), out, np.empty(shape, out.dtype),
        np.empty(shape, out.dtype), _scratch.packed[size], 1,
    )  # fmt: skip


def binned_linear_backward(dy, x, bins, weight, table, dx, dweight, dtable, dbias):
    binned.binned_linear_backward(
        _plain(dy), _plain(x), bins, _plain(weight), _plain(table), _matrix(dx, dweight), dweight, dtable,
        _vector(dbias, dweight), np.empty(table.shape[::-1], dweight.dtype), _scratch.packed[dweight.itemsize], 1,
    )  # fmt: skip


# ---------------------------------------------------------------------------- activations and rows


def activation_forward(kind, alpha, x, out):
    elementwise.activation_forward(elementwise.forward_of(kind, out.itemsize), float(alpha), _plain(x), out)


def activation_backward(kind, alpha, dy, x, y, dx):
    function = elementwise.backward_of(kind, dx.itemsize)
    elementwise.activation_backward(function, float(alpha), _plain(dy), _plain(x), _plain(y), dx)


def softmax_forward(x, out):
    rows.softmax_forward(_plain(x), out)


def softmax_backward(dy, y, dx):
    rows.softmax_backward(_plain(dy), _plain(y), dx)


def layer_norm_forward(x, weight, bias, eps, mean, rstd, out):
    rows.layer_norm_forward(_plain(x), _vector(weight, out), _vector(bias, out), eps, mean, rstd, out)


def layer_norm_backward(dy, x, weight, mean, rstd, dx, dweight, dbias):
    rows.layer_norm_backward(
        _plain(dy),
        _plain(x),
        _vector(weight, dx),
        _plain(mean),
        _plain(rstd),
        dx,
        _vector(dweight, dx),
        _vector(dbias, dx),
    )


def normalize(x, mean, scale, out):
    if x.dtype not in (np.uint8, np.float32, np.float64):
        x = x.astype(out.dtype)
    rows.normalize(_plain(x), _plain(mean), _plain(scale), out)


def columns_forward(kind, x, a, b, out):
    columns.columns_forward(kind)(_plain(x), _plain(a), _vector(b, out), out)


def columns_backward(kind, dy, x, a, b, dx, da, db):
    columns.columns_backward(kind)(
        _plain(dy), _plain(x), _plain(a), _vector(b, dx), dx, _vector(da, dx), _vector(db, dx)
    )


def dropout(x, rate, seed, layer, step, out):
    threshold = np.uint64(math.floor(rate * 2**32))
    factor = x.dtype.type(1 / (1 - rate) if rate < 1 else 0)
    words = (np.uint64(word) for word in (seed & _LOW, seed >> 32, layer, step & _LOW))
    rows.dropout(_plain(x), threshold, factor, *words, out)


# ----------------------------------------------------------------------------------------- losses


def _targets(target, like):
    """Return (index targets, soft targets), one of them empty."""
    if target.ndim == 1:
        return _plain(target), _NONE[like.itemsize][1]
    return _NO_TARGETS, _plain(target)


def _classwise(kind, way, x, target, class_weight, numbers, row_scale, losses, dx):
    index, soft = _targets(target, x)
    loss_kernels.classwise_loss(
        loss_kernels.classwise_of(kind, way, x.itemsize), _plain(x), index, soft, _vector(class_weight, x),
        np.array(numbers, np.float64), _plain(row_scale), _vector(losses, x), _matrix(dx, x),
        np.empty((2, x.shape[1]), x.dtype),
    )  # fmt: skip


def cross_entropy(x, target, class_weight, smoothing, row_scale, losses, dx):
    way = loss_kernels.way_of("cross_entropy", plain=target.ndim == 1 and class_weight is None and not smoothing)
    _classwise("cross_entropy", way, x, target, class_weight, (smoothing, 0.0), row_scale, losses, dx)


def cross_entropy_probabilities(x, target, class_weight, smoothing, row_scale, losses, dx):
    numbers = smoothing, probability_floor(x.dtype)
    _classwise("cross_entropy", "probabilities", x, target, class_weight, numbers, row_scale, losses, dx)


def classwise_loss(kind, x, target, class_weight, numbers, row_scale, losses, dx):
    _classwise(kind, "formula", x, target, class_weight, numbers, row_scale, losses, dx)


def elementwise_loss(kind, x, target, column_weight, numbers, row_scale, losses, dx):
    loss_kernels.elementwise_loss(
        loss_kernels.elementwise_of(kind, x.itemsize), _plain(x), _plain(target), _vector(column_weight, x),
        np.array(numbers, np.float64), _plain(row_scale), _vector(losses, x), _matrix(dx, x),
    )  # fmt: skip


# ------------------------------------------------------------------------------------- optimizers
# Flat views let matrices and vectors share one compiled version.


def _flat(a, like):
    return _NONE[like.itemsize][0] if a is None else a.reshape(-1)


def _gradient(grad):
    return _plain(grad).reshape(-1)


def optimizer_update(kind, numbers, grad, states, param):
    three = (*states, *[None] * (MOST_STATES - len(states)))
    flat = [_flat(state, param) for state in three]
    padded = np.zeros(MOST_NUMBERS)
    padded[: len(numbers)] = numbers
    function = updates.update_of(kind, param.itemsize)
    updates.optimizer_update(function, _gradient(grad), padded, *flat, _flat(param, param))


def sum_of_squares(grad):
    return updates.sum_of_squares(_gradient(grad))


def scale(grad, factor, out):
    updates.scale(_gradient(grad), float(factor), out.reshape(-1))


def add_scaled(x, factor, out):
    updates.add_scaled(_gradient(x), float(factor), out.reshape(-1))


def clip(grad, bound, out):
    updates.clip(_gradient(grad), float(bound), out.reshape(-1))
