"""The optimizers, element by element, and what clipping needs. Formulas are `reference`'s."""

from __future__ import annotations

import math

import numba
import numpy as np

from .elementwise import THREADS, blocks
from .halving import halving
from .runtime import SIMULATED, cuda, empty, launch

__all__ = ["adagrad", "adam", "add_scaled", "clip", "rmsprop", "scale", "sgd", "sum_of_squares"]

_SUM_BLOCKS, _SUM_THREADS = (3, 4) if SIMULATED else (64, 128)
_total, _double = halving(_SUM_THREADS), np.float64


@cuda.jit
def _sgd(grad, lr, momentum, decay, nesterov, velocity, has_velocity, param):
    for i in range(cuda.grid(1), param.size, cuda.gridsize(1)):
        g = grad[i] + decay * param[i]
        if has_velocity:
            v = momentum * velocity[i] + g
            velocity[i] = v
            g = g + momentum * v if nesterov else v
        param[i] -= lr * g


@cuda.jit
def _adam(grad, rate, blend1, beta2, blend2, eps, decay, shrink, root, mean, square, param):
    for i in range(cuda.grid(1), param.size, cuda.gridsize(1)):
        p = param[i] * shrink
        g = grad[i] + decay * p
        m = mean[i] + blend1 * (g - mean[i])
        s = beta2 * square[i] + blend2 * g * g
        mean[i] = m
        square[i] = s
        param[i] = p - rate * (m / (math.sqrt(s) / root + eps))


@cuda.jit
def _rmsprop(grad, lr, keep, blend, eps, decay, momentum, square, mean, has_mean, velocity, has_velocity, param):
    for i in range(cuda.grid(1), param.size, cuda.gridsize(1)):
        g = grad[i] + decay * param[i]
        s = keep * square[i] + blend * g * g
        square[i] = s
        if has_mean:
            m = mean[i] + blend * (g - mean[i])
            mean[i] = m
            s = s - m * m
        update = g / (math.sqrt(s) + eps)
        if has_velocity:
            update = momentum * velocity[i] + update
            velocity[i] = update
        param[i] -= lr * update


@cuda.jit
def _adagrad(grad, lr, eps, decay, total, param):
    for i in range(cuda.grid(1), param.size, cuda.gridsize(1)):
        g = grad[i] + decay * param[i]
        t = total[i] + g * g
        total[i] = t
        param[i] -= lr * (g / (math.sqrt(t) + eps))


@cuda.jit
def _scale(grad, factor, out):
    for i in range(cuda.grid(1), out.size, cuda.gridsize(1)):
        out[i] = factor * grad[i]


@cuda.jit
def _add_scaled(x, factor, out):
    for i in range(cuda.grid(1), out.size, cuda.gridsize(1)):
        out[i] += factor * x[i]


@cuda.jit
def _clip(grad, bound, out):
    for i in range(cuda.grid(1), out.size, cuda.gridsize(1)):
        g = grad[i]
        out[i] = bound if g > bound else -bound if g < -bound else g  # NaN stays


@cuda.jit
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
        lr / (1 - beta1**step), 1 - beta1, beta2, 1 - beta2, eps, decay, shrink, math.sqrt(1 - beta2**step),
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
    return float(sums.copy_to_host().sum())


def scale(grad, factor, out):
    _update(_scale, grad, (factor,), out)


def add_scaled(x, factor, out):
    _update(_add_scaled, x, (factor,), out)


def clip(grad, bound, out):
    _update(_clip, grad, (bound,), out)
