"""The optimizers, element by element, and what clipping needs. Formulas are `reference`'s."""

from __future__ import annotations

import math

import numba
import numpy as np

from . import formulas
from .elementwise import THREADS, blocks
from .halving import halving
from .jit import kernel
from .runtime import SIMULATED, cuda, empty, launch, to_numpy

__all__ = ["adagrad", "adam", "add_scaled", "clip", "mark_if_not_finite", "rmsprop", "scale", "sgd", "sum_of_squares"]

_SUM_BLOCKS, _SUM_THREADS = (3, 4) if SIMULATED else (64, 128)
_total, _double = halving(_SUM_THREADS), np.float64


@kernel
def _sgd(grad, lr, momentum, decay, nesterov, velocity, has_velocity, param):
    for i in range(cuda.grid(1), param.size, cuda.gridsize(1)):
        p, v = formulas.sgd(grad[i], param[i], velocity[i], lr, momentum, decay, nesterov, has_velocity)
        if has_velocity:
            velocity[i] = v
        param[i] = p


@kernel
def _adam(grad, rate, blend1, beta2, blend2, eps, decay, shrink, unroot, mean, square, param):
    for i in range(cuda.grid(1), param.size, cuda.gridsize(1)):
        param[i], mean[i], square[i] = formulas.adam(
            grad[i], param[i], mean[i], square[i], rate, blend1, beta2, blend2, eps, decay, shrink, unroot
        )


@kernel
def _rmsprop(grad, lr, keep, blend, eps, decay, momentum, square, mean, has_mean, velocity, has_velocity, param):
    for i in range(cuda.grid(1), param.size, cuda.gridsize(1)):
        p, square[i], m, v = formulas.rmsprop(
            grad[i], param[i], square[i], mean[i], velocity[i], lr, keep, blend, eps, decay, momentum, has_mean,
            has_velocity,
        )  # fmt: skip
        if has_mean:
            mean[i] = m
        if has_velocity:
            velocity[i] = v
        param[i] = p


@kernel
def _adagrad(grad, lr, eps, decay, total, param):
    for i in range(cuda.grid(1), param.size, cuda.gridsize(1)):
        param[i], total[i] = formulas.adagrad(grad[i], param[i], total[i], lr, eps, decay)


@kernel
def mark_if_not_finite(values, found):
    """found[0] = 1 if any of ``values (N,)`` is NaN or infinite; else it stays as it is."""
    for i in range(cuda.grid(1), values.size, cuda.gridsize(1)):
        if not math.isfinite(values[i]):
            found[0] = 1


@kernel
def _scale(grad, factor, out):
    for i in range(cuda.grid(1), out.size, cuda.gridsize(1)):
        out[i] = factor * grad[i]


@kernel
def _add_scaled(x, factor, out):
    for i in range(cuda.grid(1), out.size, cuda.gridsize(1)):
        out[i] += factor * x[i]


@kernel
def _clip(grad, bound, out):
    for i in range(cuda.grid(1), out.size, cuda.gridsize(1)):
        g = grad[i]
        out[i] = bound if g > bound else -bound if g < -bound else g  # NaN stays


@kernel
def _squares(grad, sums):
    shared = cuda.shared.array(_SUM_THREADS, numba.float64)
    total = _double(0)
    for j in range(cuda.grid(1), grad.size, cuda.gridsize(1)):
        g = _double(grad[j])
        total += g * g
    total = _total(total, shared)
    if cuda.threadIdx.x == 0:
        sums[cuda.blockIdx.x] = total


def _update(kernel, grad, numbers, *arrays):
    """Launch over flat arrays, numbers in the parameters' dtype; an array that is None goes as the parameters."""
    param = arrays[-1].reshape(-1)
    T = param.dtype.type
    flat = [param if a is None else a if isinstance(a, bool) else a.reshape(-1) for a in arrays[:-1]]
    numbers = [n if isinstance(n, bool) else T(n) for n in numbers]
    launch(kernel, blocks(param.size), THREADS, grad.reshape(-1), *numbers, *flat, param)


def sgd(grad, lr, momentum, weight_decay, nesterov, velocity, param):
    _update(_sgd, grad, (lr, momentum, weight_decay, bool(nesterov)), velocity, velocity is not None, param)


def adam(grad, lr, beta1, beta2, eps, weight_decay, decoupled, step, mean, square, param):
    decay, shrink = (0.0, 1 - lr * weight_decay) if decoupled else (weight_decay, 1.0)
    numbers = (
        lr / (1 - beta1**step), 1 - beta1, beta2, 1 - beta2, eps, decay, shrink, 1 / math.sqrt(1 - beta2**step),
    )  # fmt: skip
    _update(_adam, grad, numbers, mean, square, param)


def rmsprop(grad, lr, decay, eps, weight_decay, momentum, square, mean, velocity, param):
    numbers = (lr, decay, 1 - decay, eps, weight_decay, momentum)
    _update(_rmsprop, grad, numbers, square, mean, mean is not None, velocity, velocity is not None, param)


def adagrad(grad, lr, eps, weight_decay, total, param):
    _update(_adagrad, grad, (lr, eps, weight_decay), total, param)


def sum_of_squares(grad):
    if grad.size == 0:
        return 0.0
    sums = empty(_SUM_BLOCKS, np.float64)
    launch(_squares, _SUM_BLOCKS, _SUM_THREADS, grad.reshape(-1), sums)
    return float(to_numpy(sums).sum())


def scale(grad, factor, out):
    _update(_scale, grad, (factor,), out)


def add_scaled(x, factor, out):
    _update(_add_scaled, x, (factor,), out)


def clip(grad, bound, out):
    _update(_clip, grad, (bound,), out)
