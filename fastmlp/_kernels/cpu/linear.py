"""Linear, forward and backward, on plain row-major arrays.

``unit`` is always 1. Where a stride is a constant, LLVM unrolls the micro-kernel, collects the loads of
neighbouring elements, runs out of registers and spills accumulators: half the speed. So it is an argument.
"""

from __future__ import annotations

from .elementwise import IDENTITY, apply_activation, load_some, store_some
from .gemm import Matrix, multiply
from .jit import inline, kernel
from .simd import lanes, load_tail

__all__ = ["linear_backward", "linear_forward"]


@kernel
def linear_forward(x, weight, bias, kind, alpha, pre, out, packed, unit):
    """pre (N, O) = x (N, I) weight (O, I)ᵀ + bias (O,), out (N, O) = h(pre).

    An empty bias is none. For the identity only out is written; pre may be out itself.
    """
    n, inputs = x.shape
    outputs = weight.shape[0]
    target = out if kind == IDENTITY else pre
    multiply(
        Matrix(x, 0, inputs, unit), Matrix(weight, 0, unit, inputs), bias, Matrix(target, 0, outputs, unit),
        n, outputs, inputs, packed,
    )  # fmt: skip
    if kind != IDENTITY:
        apply_activation(kind, alpha, pre, out)


@inline
def _column_sums(a, out):
    """out (C,) = sum of the rows of a (N, C), added in their order."""
    rows, columns = a.shape
    width = lanes(a)
    for c in range(0, columns, width):
        count = min(width, columns - c)
        total = load_tail(a, 0, 0)  # zeros
        for r in range(rows):
            total = total + load_some(a, r * columns + c, count)
        store_some(out, c, total, count)


@kernel
def linear_backward(dy, x, weight, dx, dweight, dbias, packed, unit):
    """dx (N, I) = dy (N, O) weight (O, I); dweight (O, I) = dyᵀ x; dbias (O,) = column sums of dy.

    An empty dx or dbias is not computed.
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
        _column_sums(dy, dbias)
