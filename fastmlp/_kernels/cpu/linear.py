"""Kernels of Linear, forward and backward, on plain row-major arrays.

``unit`` is always 1. It must be an argument: with a constant stride, LLVM unrolls the micro-kernel, combines the loads
of neighboring elements, runs out of registers and spills accumulators, which halves the speed.
"""

from __future__ import annotations

from .calls import call_activation
from .declare import FLOAT, INT, MATRIX, VECTOR
from .elementwise import load_some, store_some
from .gemm import Matrix, multiply
from .jit import inline, kernel
from .simd import lanes, load, load_tail, store

__all__ = ["column_sums", "linear_activation_forward", "linear_backward", "linear_forward"]


@inline
def _affine(x, weight, bias, out, packed, unit):
    n, inputs = x.shape
    outputs = weight.shape[0]
    multiply(
        Matrix(x, 0, inputs, unit), Matrix(weight, 0, unit, inputs), bias, Matrix(out, 0, outputs, unit),
        n, outputs, inputs, packed,
    )  # fmt: skip


@kernel(MATRIX, MATRIX, VECTOR, MATRIX, VECTOR, INT)
def linear_forward(x, weight, bias, out, packed, unit):
    """Compute out (N, O) = x (N, I) weight (O, I)ᵀ + bias (O,); pass an array of size 0 for no bias."""
    _affine(x, weight, bias, out, packed, unit)


@kernel(MATRIX, MATRIX, VECTOR, INT, FLOAT, MATRIX, MATRIX, VECTOR, INT)
def linear_activation_forward(x, weight, bias, function, alpha, pre, out, packed, unit):
    """Compute pre (N, O) as `linear_forward` and out (N, O) = h(pre); pre may be out itself.

    ``function`` is a result of `elementwise.forward_of`.
    """
    _affine(x, weight, bias, pre, packed, unit)
    call_activation(function, alpha, pre, out)


@inline
def column_sums(a, out):
    """Compute out (C,) = sum of the rows of a (N, C), added in row order."""
    rows, columns = a.shape
    width = lanes(a)
    zeros = load_tail(a, 0, 0)
    done = 0
    while columns - done >= 4 * width:  # four independent sums hide the latency of the additions
        s0, s1, s2, s3 = zeros, zeros, zeros, zeros
        for r in range(rows):
            at = r * columns + done
            s0, s1 = s0 + load(a, at), s1 + load(a, at + width)
            s2, s3 = s2 + load(a, at + 2 * width), s3 + load(a, at + 3 * width)
        store(out, done, s0)
        store(out, done + width, s1)
        store(out, done + 2 * width, s2)
        store(out, done + 3 * width, s3)
        done += 4 * width
    for c in range(done, columns, width):
        count = min(width, columns - c)
        total = zeros
        for r in range(rows):
            total = total + load_some(a, r * columns + c, count)
        store_some(out, c, total, count)


@kernel(MATRIX, MATRIX, MATRIX, MATRIX, MATRIX, VECTOR, VECTOR, INT)
def linear_backward(dy, x, weight, dx, dweight, dbias, packed, unit):
    """Compute dx (N, I) = dy (N, O) weight (O, I); dweight (O, I) = dyᵀ x; dbias (O,) = column sums of dy.

    Pass arrays of size 0 to skip dx or dbias.
    """
    n, outputs = dy.shape
    inputs = x.shape[1]
    nothing = packed[:0]
    if dx.size > 0:
        multiply(
            Matrix(dy, 0, outputs, unit), Matrix(weight, 0, inputs, unit), nothing, Matrix(dx, 0, inputs, unit),
            n, inputs, outputs, packed,
        )  # fmt: skip
    multiply(
        Matrix(dy, 0, unit, outputs), Matrix(x, 0, inputs, unit), nothing, Matrix(dweight, 0, inputs, unit),
        outputs, inputs, n, packed,
    )  # fmt: skip
    if dbias.size > 0:
        column_sums(dy, dbias)
