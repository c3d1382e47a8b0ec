"""Kernels for softmax, LayerNorm and the losses: one thread block per row, reductions in shared memory.

The order of each reduction is fixed, so results are bitwise reproducible.
"""

from __future__ import annotations

import functools
import math

import numba
import numpy as np

from ..._common.arithmetic import ceil_div
from ..reference import probability_floor
from .block_reduce import block_reduce
from .jit import device, kernel
from .number import formula
from .products import COLUMNS, PARTS
from .runtime import SIMULATED, cuda, launch

__all__ = [
    "class_share", "classwise_loss", "elementwise_loss", "layer_norm_backward", "layer_norm_forward",
    "softmax_backward", "softmax_forward", "target_weight", "loss_formula",
]  # fmt: skip

THREADS = 4 if SIMULATED else 32  # rows are usually narrow: with ten classes, a larger block is mostly idle
MOST_BLOCKS = 65536


_total, _largest = block_reduce(THREADS), block_reduce(THREADS, larger=True)


def _kinds(dtype):
    dtype = np.dtype(dtype)
    return numba.from_dtype(dtype), dtype.type


def _blocks(rows):
    return min(MOST_BLOCKS, rows)


# ------------------------------------------------------------------------------------------ softmax


@functools.cache
def _softmax(dtype):
    scalar, T = _kinds(dtype)
    zero, lowest = T(0), T(-math.inf)

    @kernel
    def softmax(x, out):
        shared = cuda.shared.array(THREADS, scalar)
        rows, columns = x.shape
        for r in range(cuda.blockIdx.x, rows, cuda.gridDim.x):
            m = lowest
            for c in range(cuda.threadIdx.x, columns, THREADS):
                if x[r, c] > m:
                    m = x[r, c]
            m = _largest(m, shared)
            total = zero
            for c in range(cuda.threadIdx.x, columns, THREADS):
                e = math.exp(x[r, c] - m)
                out[r, c] = e
                total += e
            total = _total(total, shared)
            for c in range(cuda.threadIdx.x, columns, THREADS):
                out[r, c] /= total

    return softmax


def softmax_forward(x, out):
    launch(_softmax(out.dtype), _blocks(out.shape[0]), THREADS, x, out)


@functools.cache
def _softmax_backward(dtype):
    scalar, T = _kinds(dtype)
    zero = T(0)

    @kernel
    def backward(dy, y, dx):
        shared = cuda.shared.array(THREADS, scalar)
        rows, columns = y.shape
        for r in range(cuda.blockIdx.x, rows, cuda.gridDim.x):
            inner = zero
            for c in range(cuda.threadIdx.x, columns, THREADS):
                inner += dy[r, c] * y[r, c]
            inner = _total(inner, shared)
            for c in range(cuda.threadIdx.x, columns, THREADS):
                dx[r, c] = y[r, c] * (dy[r, c] - inner)

    return backward


def softmax_backward(dy, y, dx):
    launch(_softmax_backward(dx.dtype), _blocks(dx.shape[0]), THREADS, dy, y, dx)


# ---------------------------------------------------------------------------------------- LayerNorm


@functools.cache
def _layer_norm(dtype):
    scalar, T = _kinds(dtype)
    zero, one = T(0), T(1)

    @kernel
    def forward(x, weight, bias, affine, eps, mean, rstd, out):
        shared = cuda.shared.array(THREADS, scalar)
        rows, columns = x.shape
        for r in range(cuda.blockIdx.x, rows, cuda.gridDim.x):
            total = zero
            for c in range(cuda.threadIdx.x, columns, THREADS):
                total += x[r, c]
            middle = _total(total, shared) / T(columns)
            total = zero
            for c in range(cuda.threadIdx.x, columns, THREADS):
                d = x[r, c] - middle
                total += d * d
            scale = one / math.sqrt(_total(total, shared) / T(columns) + eps)
            for c in range(cuda.threadIdx.x, columns, THREADS):
                z = (x[r, c] - middle) * scale
                out[r, c] = z * weight[c] + bias[c] if affine else z
            if cuda.threadIdx.x == 0:
                mean[r] = middle
                rstd[r] = scale

    return forward


def layer_norm_forward(x, weight, bias, eps, mean, rstd, out):
    affine = weight is not None
    launch(
        _layer_norm(out.dtype), _blocks(out.shape[0]), THREADS, x, weight if affine else mean, bias if affine else mean,
        affine, out.dtype.type(eps), mean, rstd, out,
    )  # fmt: skip


@functools.cache
def _layer_norm_backward(dtype):
    scalar, T = _kinds(dtype)
    zero, one = T(0), T(1)

    @kernel
    def backward(dy, x, weight, affine, mean, rstd, dx):
        shared = cuda.shared.array(THREADS, scalar)
        rows, columns = x.shape
        for r in range(cuda.blockIdx.x, rows, cuda.gridDim.x):
            first, second = zero, zero
            for c in range(cuda.threadIdx.x, columns, THREADS):
                g = dy[r, c] * (weight[c] if affine else one)
                first += g
                second += g * ((x[r, c] - mean[r]) * rstd[r])
            first = _total(first, shared) / T(columns)
            second = _total(second, shared) / T(columns)
            for c in range(cuda.threadIdx.x, columns, THREADS):
                g = dy[r, c] * (weight[c] if affine else one)
                dx[r, c] = rstd[r] * (g - first - (x[r, c] - mean[r]) * rstd[r] * second)

    return backward


@functools.cache
def _layer_norm_gradient(dtype):
    scalar, T = _kinds(dtype)
    zero = T(0)

    @kernel
    def gradient(dy, x, mean, rstd, dweight, dbias):
        weights = cuda.shared.array((PARTS, COLUMNS), scalar)
        biases = cuda.shared.array((PARTS, COLUMNS), scalar)
        tx, ty = cuda.threadIdx.x, cuda.threadIdx.y
        column = cuda.blockIdx.x * COLUMNS + tx
        w, b = zero, zero
        if column < dbias.size:
            for r in range(ty, x.shape[0], PARTS):
                w += dy[r, column] * ((x[r, column] - mean[r]) * rstd[r])
                b += dy[r, column]
        weights[ty, tx] = w
        biases[ty, tx] = b
        cuda.syncthreads()
        if ty == 0 and column < dbias.size:
            for part in range(1, PARTS):
                w += weights[part, tx]
                b += biases[part, tx]
            dweight[column] = w
            dbias[column] = b

    return gradient


def layer_norm_backward(dy, x, weight, mean, rstd, dx, dweight, dbias):
    affine = weight is not None
    launch(
        _layer_norm_backward(dx.dtype), _blocks(dx.shape[0]), THREADS, dy, x, weight if affine else mean, affine, mean,
        rstd, dx,
    )  # fmt: skip
    if affine:
        grid = ceil_div(dbias.size, COLUMNS)
        launch(_layer_norm_gradient(dx.dtype), grid, (COLUMNS, PARTS), dy, x, mean, rstd, dweight, dbias)


# ------------------------------------------------------------------------------------------- losses


@functools.cache
def target_weight(dtype):
    """Return a device function for w_j t'_ij, see `reference.cross_entropy`.

    The targets are ``index (N,)`` if ``by_index``, else ``soft (N, C)``. The class weights start at class_weight[at].
    """
    T = np.dtype(dtype).type
    zero, one = T(0), T(1)

    @device
    def weight_of(r, c, columns, index, soft, by_index, class_weight, at, weighted, smoothing):
        t = soft[r if not by_index else 0, c if not by_index else 0]
        if by_index:
            t = one if index[r] == c else zero
        t = (one - smoothing) * t + smoothing / T(columns)
        return t * class_weight[at + c] if weighted else t

    return weight_of


@functools.cache
def class_share(kind, dtype):
    """Return f(w, log p, a) -> (w times the class's loss term, -w times the derivative of the term)."""
    zero = np.dtype(dtype).type(0)
    term = formula("losses", kind, dtype)["class_term"]

    @device
    def share(w, log_p, a):
        if w == zero:  # avoids 0 * inf for a probability of 0
            return zero, zero
        value, derivative = term(log_p, a)
        return w * value, -(w * derivative)

    return share


@functools.cache
def _classwise_loss(kind, dtype, from_logits):
    scalar, T = _kinds(dtype)
    zero, lowest = T(0), T(-math.inf)
    floor = T(probability_floor(dtype))
    weights_are_gradients = kind == "cross_entropy"

    weight_of, share_of = target_weight(dtype), class_share(kind, dtype)

    @kernel
    def classwise_loss(
        x, index, soft, by_index, class_weight, weighted, smoothing, a, row_scale, losses, has_losses, dx, has_dx
    ):
        shared = cuda.shared.array(THREADS, scalar)
        rows, columns = x.shape
        for r in range(cuda.blockIdx.x, rows, cuda.gridDim.x):
            m, total, weights = lowest, zero, zero
            if from_logits:
                for c in range(cuda.threadIdx.x, columns, THREADS):
                    if x[r, c] > m:
                        m = x[r, c]
                m = _largest(m, shared)
                for c in range(cuda.threadIdx.x, columns, THREADS):
                    total += math.exp(x[r, c] - m)
                    if weights_are_gradients:
                        weights += weight_of(r, c, columns, index, soft, by_index, class_weight, 0, weighted, smoothing)
                total = _total(total, shared)
                if not weights_are_gradients:
                    for c in range(cuda.threadIdx.x, columns, THREADS):
                        w = weight_of(r, c, columns, index, soft, by_index, class_weight, 0, weighted, smoothing)
                        weights += share_of(w, x[r, c] - m - math.log(total), a)[1]
                weights = _total(weights, shared)
            loss = zero
            for c in range(cuda.threadIdx.x, columns, THREADS):
                w = weight_of(r, c, columns, index, soft, by_index, class_weight, 0, weighted, smoothing)
                if from_logits:
                    value, w = share_of(w, x[r, c] - m - math.log(total), a)
                    loss += value
                    if has_dx:
                        dx[r, c] = (math.exp(x[r, c] - m) / total * weights - w) * row_scale[r]
                else:
                    p = floor if x[r, c] < floor else x[r, c]
                    if has_losses:
                        loss -= w * math.log(p)
                    if has_dx:
                        dx[r, c] = row_scale[r] * (-w / p)
            if has_losses:
                loss = _total(loss, shared)
                if cuda.threadIdx.x == 0:
                    losses[r] = row_scale[r] * loss

    return classwise_loss


def classwise_loss(kind, from_logits, x, index, soft, class_weight, numbers, row_scale, losses, dx):
    """Compute classwise losses of logits or probabilities; ``soft`` is None if ``index`` holds the targets."""
    by_index, weighted = soft is None, class_weight is not None
    # Arguments that the kernel does not read are placeholders of the right type.
    launch(
        _classwise_loss(kind, x.dtype, from_logits), _blocks(x.shape[0]), THREADS, x, index, x if by_index else soft,
        by_index, class_weight if weighted else row_scale, weighted, *map(x.dtype.type, numbers), row_scale,
        row_scale if losses is None else losses, losses is not None, x if dx is None else dx, dx is not None,
    )  # fmt: skip


@functools.cache
def loss_formula(kind, dtype):
    """Return the device function loss(x, t, w, a, b) -> (term, derivative) of one element."""
    return formula("losses", kind, dtype)["loss"]


@functools.cache
def _elementwise_loss(kind, dtype):
    scalar, T = _kinds(dtype)
    zero, one = T(0), T(1)
    element = loss_formula(kind, dtype)

    @kernel
    def loss(x, target, column_weight, weighted, a, b, row_scale, losses, has_losses, dx, has_dx):
        shared = cuda.shared.array(THREADS, scalar)
        rows, columns = x.shape
        for r in range(cuda.blockIdx.x, rows, cuda.gridDim.x):
            total = zero
            for c in range(cuda.threadIdx.x, columns, THREADS):
                w = column_weight[c] if weighted else one
                term, derivative = element(x[r, c], target[r, c], w, a, b)
                total += term
                if has_dx:
                    dx[r, c] = row_scale[r] * derivative
            if has_losses:
                total = _total(total, shared)
                if cuda.threadIdx.x == 0:
                    losses[r] = row_scale[r] * total

    return loss


def elementwise_loss(kind, x, target, column_weight, numbers, row_scale, losses, dx):
    weighted = column_weight is not None
    launch(
        _elementwise_loss(kind, x.dtype), _blocks(x.shape[0]), THREADS, x, target,
        column_weight if weighted else row_scale, weighted, *map(x.dtype.type, numbers), row_scale,
        row_scale if losses is None else losses, losses is not None, x if dx is None else dx, dx is not None,
    )  # fmt: skip
