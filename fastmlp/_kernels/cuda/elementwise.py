"""Elementwise kernels: activations, normalization by column and dropout.

Constants have the kernel's dtype, because one float64 constant promotes float32 arithmetic to float64.
"""

from __future__ import annotations

import functools
import math

import numpy as np

from ..._common.arithmetic import ceil_div
from ..._common.philox import DROPOUT
from ..formulas import output_suffices
from .jit import kernel
from .number import formula
from .random import random_words
from .runtime import SIMULATED, cuda, launch

__all__ = ["activation_backward", "activation_forward", "dropout", "functions", "normalize", "variant"]

THREADS = 8 if SIMULATED else 256
MOST_BLOCKS = 4096  # larger arrays use a grid-stride loop


def blocks(size):
    """Return the number of blocks of `THREADS` threads for ``size`` elements."""
    return min(MOST_BLOCKS, ceil_div(size, THREADS))


OF_OUTPUT = "/output"


def variant(kind, alpha):
    """Return the key of an activation in `functions`; a suffix marks a derivative that is computed from y alone."""
    return kind + OF_OUTPUT if output_suffices(kind, alpha) else kind


@functools.cache
def functions(kind, dtype):
    """Return the device functions (h(x, alpha), h'(x, y, alpha)); with the suffix of `variant`, h' does not read x."""
    found = formula("activations", kind.removesuffix(OF_OUTPUT), dtype)
    return found["forward"], found["derivative_of_output" if kind.endswith(OF_OUTPUT) else "derivative"]


@functools.cache
def _forward(kind, dtype):
    h, _ = functions(kind, dtype)

    @kernel
    def activate(alpha, x, out):
        for i in range(cuda.grid(1), x.size, cuda.gridsize(1)):
            out[i] = h(x[i], alpha)

    return activate


@functools.cache
def _backward(kind, dtype):
    _, derivative = functions(kind, dtype)

    @kernel
    def activate_backward(alpha, dy, x, y, dx):
        for i in range(cuda.grid(1), x.size, cuda.gridsize(1)):
            dx[i] = dy[i] * derivative(x[i], y[i], alpha)

    return activate_backward


def activation_forward(kind, alpha, x, out):
    launch(_forward(kind, out.dtype), blocks(out.size), THREADS, out.dtype.type(alpha), x.reshape(-1), out.reshape(-1))


def activation_backward(kind, alpha, dy, x, y, dx):
    launch(
        _backward(kind, dx.dtype), blocks(dx.size), THREADS, dx.dtype.type(alpha), dy.reshape(-1), x.reshape(-1),
        y.reshape(-1), dx.reshape(-1),
    )  # fmt: skip


@functools.cache
def _normalize(dtype):
    T = dtype.type

    @kernel
    def normalize(x, mean, scale, out):
        columns = out.shape[1]
        for i in range(cuda.grid(1), out.size, cuda.gridsize(1)):
            r, c = i // columns, i % columns
            out[r, c] = (T(x[r, c]) - mean[c]) / scale[c]

    return normalize


def normalize(x, mean, scale, out):
    launch(_normalize(out.dtype), blocks(out.size), THREADS, x, mean, scale, out)


_PURPOSE = np.uint64(DROPOUT << 24)


@functools.cache
def _dropout(dtype):
    zero = dtype.type(0)

    @kernel
    def drop(x, threshold, factor, seed, layer, step, out):
        rows, columns = out.shape
        fours = (columns + 3) // 4  # groups of four columns, one Philox counter each
        for i in range(cuda.grid(1), rows * fours, cuda.gridsize(1)):
            r, block = i // fours, i % fours
            c0, c1, c2, c3 = random_words(np.uint64(block), np.uint64(r), step, _PURPOSE | layer, seed)
            for j in range(4):
                column = 4 * block + j
                word = c0 if j == 0 else c1 if j == 1 else c2 if j == 2 else c3
                if column < columns:
                    out[r, column] = x[r, column] * factor if word >= threshold else zero

    return drop


def dropout(x, rate, seed, layer, step, out):
    words = (np.uint64(word) for word in (seed, layer, step & 0xFFFFFFFF))
    factor = out.dtype.type(1 / (1 - rate) if rate < 1 else 0)
    launch(
        _dropout(out.dtype), blocks(out.shape[0] * ceil_div(out.shape[1], 4)), THREADS, x,
        np.uint64(math.floor(rate * 2**32)), factor, *words, out,
    )  # fmt: skip
