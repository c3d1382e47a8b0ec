"""CUDA backend: the operations of `reference`, under the same names, on GPU arrays.

NumPy inputs are copied to the GPU. Outputs must be GPU arrays (`empty`).
"""

from __future__ import annotations

import functools
import sys
from types import ModuleType

import numpy as np

from ..._common.errors import BackendError
from . import columns, elementwise, products, rows
from .elementwise import normalize as _normalize
from .machine import Machine
from .runtime import SIMULATED, check, empty, from_numpy, to_numpy, zeros
from .updates import add_scaled, clip, optimizer_update, scale, sum_of_squares

__all__ = [
    "activation_backward", "activation_forward", "add_scaled", "binned_linear_backward",
    "binned_linear_forward", "check", "classwise_loss", "clip", "columns_backward", "columns_forward",
    "cross_entropy", "cross_entropy_probabilities", "dropout", "elementwise_loss", "empty",
    "from_numpy", "layer_norm_backward", "layer_norm_forward", "linear_activation_forward", "linear_backward",
    "linear_forward", "machine", "normalize", "optimizer_update", "scale", "softmax_backward", "softmax_forward",
    "sum_of_squares", "to_numpy", "with_precision", "zeros",
]  # fmt: skip

name = "cuda"


@functools.cache
def machine():
    """Return the GPU for runs of steps, or None for the simulator, which runs blocks one after the other."""
    return None if SIMULATED else Machine()


activation_forward = elementwise.activation_forward
activation_backward = elementwise.activation_backward
dropout = elementwise.dropout
softmax_forward = rows.softmax_forward
softmax_backward = rows.softmax_backward
layer_norm_forward = rows.layer_norm_forward
layer_norm_backward = rows.layer_norm_backward
columns_forward = columns.columns_forward
columns_backward = columns.columns_backward


def _linear(precision):
    """Return the operations of Linear layers with products in the given precision."""

    def linear_forward(x, weight, bias, out):
        products.product(x, weight, bias, out, out.reshape(-1), right_transposed=True, precision=precision)

    def linear_activation_forward(x, weight, bias, kind, alpha, pre, out):
        pre = out if pre is None else pre
        linear_forward(x, weight, bias, pre)
        activation_forward(kind, alpha, pre, out)

    def linear_backward(dy, x, weight, dx, dweight, dbias):
        if dx is not None:
            products.product(dy, weight, None, dx, dx.reshape(-1), precision=precision)
        products.product(dy, x, None, dweight, dweight.reshape(-1), left_transposed=True, precision=precision)
        if dbias is not None:
            products.column_sums(dy, dbias)

    return linear_forward, linear_activation_forward, linear_backward


linear_forward, linear_activation_forward, linear_backward = _linear("float32")


@functools.cache
def with_precision(precision):
    """Return this backend with the products of Linear layers in the given precision."""
    if precision == "float32":
        return sys.modules[__name__]
    variant = ModuleType(__name__, f"The CUDA backend with products in {precision}.")
    variant.precision = precision
    for operation in _linear(precision):
        setattr(variant, operation.__name__, operation)
    variant.__getattr__ = functools.partial(getattr, sys.modules[__name__])
    return variant


def binned_linear_forward(x, bins, weight, table, bias, out):
    raise BackendError(
        "BinnedLinear has no kernels for GPUs; expected the backend 'numba' or 'numpy', or `to_linear()`."
    )


def binned_linear_backward(dy, x, bins, weight, table, dx, dweight, dtable, dbias):
    binned_linear_forward(x, bins, weight, table, dbias, dy)


def normalize(x, mean, scale, out):
    if x.dtype not in (np.uint8, np.float32, np.float64):
        x = to_numpy(x).astype(out.dtype)
    _normalize(from_numpy(x), mean, scale, out)


def _classwise_loss(kind, from_logits, x, target, class_weight, numbers, row_scale, losses, dx):
    target, row_scale = from_numpy(target), from_numpy(row_scale)
    by_index = target.ndim == 1
    index = target if by_index else empty(1, np.int64)
    weight = None if class_weight is None else from_numpy(class_weight)
    rows.classwise_loss(
        kind, from_logits, x, index, None if by_index else target, weight, numbers, row_scale, losses, dx
    )  # fmt: skip


def cross_entropy(x, target, class_weight, smoothing, row_scale, losses, dx):
    _classwise_loss("cross_entropy", True, x, target, class_weight, (smoothing, 0), row_scale, losses, dx)


def cross_entropy_probabilities(x, target, class_weight, smoothing, row_scale, losses, dx):
    _classwise_loss("cross_entropy", False, x, target, class_weight, (smoothing, 0), row_scale, losses, dx)


def classwise_loss(kind, x, target, class_weight, numbers, row_scale, losses, dx):
    _classwise_loss(kind, True, x, target, class_weight, numbers, row_scale, losses, dx)


def elementwise_loss(kind, x, target, column_weight, numbers, row_scale, losses, dx):
    weight = None if column_weight is None else from_numpy(column_weight)
    rows.elementwise_loss(kind, x, from_numpy(target), weight, numbers, from_numpy(row_scale), losses, dx)
