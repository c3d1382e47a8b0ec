"""Activations, normalisation by column and dropout: each element by itself.

Constants are of the kernel's dtype: one of float64 would draw all of float32's arithmetic after it.
"""

from __future__ import annotations

import functools
import math

import numpy as np

from ..philox import DROPOUT
from .jit import called, kernel
from .random import random_words
from .runtime import SIMULATED, cuda, launch

__all__ = ["activation_backward", "activation_forward", "dropout", "functions", "normalize", "sigmoid_of"]

THREADS = 8 if SIMULATED else 256
MOST_BLOCKS = 4096  # more work than that is done in a loop


def blocks(size):
    """Blocks of `THREADS` for so many elements."""
    return min(MOST_BLOCKS, -(-size // THREADS))


@functools.cache
def sigmoid_of(dtype):
    """The logistic function as a device function."""
    one, zero = dtype.type(1), dtype.type(0)

    @called
    def sigmoid(x):
        e = math.exp(-abs(x))  # never overflows
        return (one if x >= zero else e) / (one + e)

    return sigmoid


@functools.cache
def functions(kind, dtype):
    """(h(x, alpha), h'(x, y, alpha)) as device functions, see `reference`."""
    T = dtype.type
    zero, half, one, three = T(0), T(0.5), T(1), T(3)
    root, density = T(math.sqrt(0.5)), T(1 / math.sqrt(2 * math.pi))
    c, k = T(2 * math.sqrt(2 / math.pi)), T(0.044715)
    sigmoid = sigmoid_of(dtype)

    def identity(x, a):
        return x

    def identity_slope(x, y, a):
        return one

    def relu(x, a):
        return zero if x < zero else x

    def relu_slope(x, y, a):
        return one if x > zero else zero

    def leaky_relu(x, a):
        return x if x > zero else a * x

    def leaky_relu_slope(x, y, a):
        return one if x > zero else a

    def elu(x, a):
        return x if x > zero else a * math.expm1(x)

    def elu_slope(x, y, a):
        return one if x > zero else a * math.exp(x)

    def tanh(x, a):
        return math.tanh(x)

    def tanh_slope(x, y, a):
        return (one - y) * (one + y)

    def logistic(x, a):
        return sigmoid(x)

    def logistic_slope(x, y, a):
        return y * (one - y)

    def gelu(x, a):
        return x * (half * math.erfc(-x * root))

    def gelu_slope(x, y, a):
        return half * math.erfc(-x * root) + x * (math.exp(-half * x * x) * density)

    def gelu_tanh(x, a):
        return x * sigmoid(c * (x + k * x * x * x))

    def gelu_tanh_slope(x, y, a):
        u = c * (x + k * x * x * x)
        gate = sigmoid(u)
        return gate + x * gate * sigmoid(-u) * c * (one + three * k * x * x)

    def silu(x, a):
        return x * sigmoid(x)

    def silu_slope(x, y, a):
        return sigmoid(x) * (one + x * sigmoid(-x))

    def softplus(x, a):
        return (x if x > zero else zero) + math.log1p(math.exp(-abs(x)))

    def softplus_slope(x, y, a):
        return sigmoid(x)

    pairs = {
        "identity": (identity, identity_slope), "relu": (relu, relu_slope),
        "leaky_relu": (leaky_relu, leaky_relu_slope), "elu": (elu, elu_slope), "tanh": (tanh, tanh_slope),
        "sigmoid": (logistic, logistic_slope), "gelu": (gelu, gelu_slope),
        "gelu_tanh": (gelu_tanh, gelu_tanh_slope), "silu": (silu, silu_slope),
        "softplus": (softplus, softplus_slope),
    }  # fmt: skip
    return tuple(called(function) for function in pairs[kind])


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
    _, slope = functions(kind, dtype)

    @kernel
    def activate_backward(alpha, dy, x, y, dx):
        for i in range(cuda.grid(1), x.size, cuda.gridsize(1)):
            dx[i] = dy[i] * slope(x[i], y[i], alpha)

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
        fours = (columns + 3) // 4  # one counter's words, see `philox`
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
        _dropout(out.dtype), blocks(out.shape[0] * -(-out.shape[1] // 4)), THREADS, x,
        np.uint64(math.floor(rate * 2**32)), factor, *words, out,
    )  # fmt: skip
