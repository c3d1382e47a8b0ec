"""Kernels for optimizer updates, gradient clipping and sums of squares."""

from __future__ import annotations

import functools
import math

import numba
import numpy as np

from ..formulas.optimizers import MOST_NUMBERS, MOST_STATES
from .block_reduce import block_reduce
from .elementwise import THREADS, blocks
from .jit import kernel
from .rules import rule
from .runtime import SIMULATED, cuda, empty, launch, to_numpy

__all__ = ["add_scaled", "clip", "mark_if_not_finite", "optimizer_update", "scale", "sum_of_squares"]

_SUM_BLOCKS, _SUM_THREADS = (3, 4) if SIMULATED else (64, 128)
_total, _double = block_reduce(_SUM_THREADS), np.float64


@functools.cache
def _optimizer(kind, dtype):
    _, _, step = rule(kind, dtype)
    zero = dtype.type(0)

    @kernel
    def update(grad, n, first, has_first, second, has_second, third, has_third, param):
        for i in range(cuda.grid(1), param.size, cuda.gridsize(1)):
            a = first[i] if has_first else zero
            b = second[i] if has_second else zero
            c = third[i] if has_third else zero
            param[i], a, b, c = step(grad[i], n, param[i], a, b, c)
            if has_first:
                first[i] = a
            if has_second:
                second[i] = b
            if has_third:
                third[i] = c

    return update


@kernel
def mark_if_not_finite(values, found):
    """Set found[0] to 1 if any of ``values (N,)`` is NaN or infinite."""
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
        out[i] = bound if g > bound else -bound if g < -bound else g  # NaN passes through


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
    """Launch a kernel over flat arrays.

    Numbers are converted to the parameters' dtype. The parameters stand in for arrays that are None.
    """
    param = arrays[-1].reshape(-1)
    T = param.dtype.type
    flat = [param if a is None else a if isinstance(a, bool) else a.reshape(-1) for a in arrays[:-1]]
    numbers = [n if isinstance(n, bool) else T(n) for n in numbers]
    launch(kernel, blocks(param.size), THREADS, grad.reshape(-1), *numbers, *flat, param)


def optimizer_update(kind, numbers, grad, states, param):
    dtype = np.dtype(param.dtype)
    n = tuple(map(dtype.type, (*numbers, *[0.0] * (MOST_NUMBERS - len(numbers)))))
    flat = param.reshape(-1)
    given = []
    for state in (*states, *[None] * (MOST_STATES - len(states))):
        given += [flat if state is None else state.reshape(-1), state is not None]
    launch(_optimizer(kind, dtype), blocks(flat.size), THREADS, grad.reshape(-1), n, *given, flat)


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
