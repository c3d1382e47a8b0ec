"""Gradients of a Linear over a batch, one block of weights or of biases at a time (phase 2 of `engine`)."""

from __future__ import annotations

import numpy as np

from .arithmetic import ceil_div
from .jit import inline
from .native import pointer, prefetch
from .panels import panel_stride
from .products import Left, Right, Target, product
from .simd import lanes, load, load_tail, store
from .table import CAPACITY, DY, IN, OUT, PARAM_COLUMNS, TRANSPOSED, WEIGHT, X
from .tile import transpose_block

__all__ = ["bias_gradient", "weight_gradient"]

# Rows of the batch from which on lanes without an output cost more than the transposition of a narrow panel.
FEWEST_ROWS = 16


@inline
def _fetch(op, params, weights, column, i, height, stride):
    """Prefetch a block of weights, its optimizer state and its second copy during the computation of the gradient."""
    width = lanes(weights)
    line = 64 // weights.itemsize
    rows = ceil_div(op[IN], width) * width
    at, size = column * rows + i * stride, height * stride
    for array in range(PARAM_COLUMNS - 1):
        if params[op[WEIGHT], array] >= 0:
            start = params[op[WEIGHT], array] + at
            for j in range(start, start + size, line):
                prefetch(weights, j)
    if op[TRANSPOSED] >= 0:
        side = panel_stride(weights, op[IN], i)
        start = op[TRANSPOSED] + i * (ceil_div(op[OUT], width) * width) + column * side
        for j in range(start, start + stride * side, line):
            prefetch(weights, j)


@inline
def weight_gradient(op, first, stop, column, r0, r1, params, work, weights, out, spare, none, unit, fetches, block):
    """Write the gradient of a block of weights to work[out].

    The block consists of the inputs ``first`` .. ``stop`` and the panel of outputs at ``column``. The sum over the rows
    r0 .. r1 of the batch, at least one, proceeds in blocks of ``block`` rows. work[spare] has room for a square of a
    panel's width; ``none`` is an `Epilogue` without a function.
    """
    work_p = pointer(work, 0)
    rows, panel = op[CAPACITY], 2 * lanes(work)
    width = min(panel, op[OUT] - column)
    if 4 * width < 3 * lanes(work) and r1 - r0 >= FEWEST_ROWS:
        _narrow_gradient(op, first, stop, column, r0, r1, params, work, weights, out, spare, none, unit, fetches, block)
        return
    stride = panel_stride(work, op[OUT], column)
    b = r0
    while b < r1:
        length = min(block, r1 - b)
        for i in range(first, stop, panel):
            m = min(panel, op[IN] - i)
            step = panel_stride(work, op[IN], i)
            start = op[X] + i * rows + b * step
            if b == r0 and fetches:
                _fetch(op, params, weights, column, i, m, stride)
            product(
                Left(work_p, start, unit, step, 0, 0, 0, start, unit, step, length),
                Right(work_p, op[DY] + column * rows, rows, b), 2 if b == r0 else 0, np.int64(0),
                Target(work_p, out + (i - first) * stride, 0, 0, m, width, False, False), none,
            )  # fmt: skip
        b += block


@inline
def _narrow_gradient(op, first, stop, column, r0, r1, params, work, weights, out, spare, none, unit, fetches, block):
    """Compute `weight_gradient` of few outputs, transposed: lanes are inputs, so that none is idle.

    Each element is the same chain of multiply-adds as in `weight_gradient`.
    """
    work_p = pointer(work, 0)
    rows, half = op[CAPACITY], lanes(work)
    width = op[OUT] - column
    for i in range(first, stop, 2 * half):
        m, step = min(2 * half, op[IN] - i), panel_stride(work, op[IN], i)
        if fetches:
            _fetch(op, params, weights, column, i, m, half)
        for j in range(spare + width * step, spare + half * step, half):  # rows of the transpose without an output
            store(work, j, load_tail(work, 0, 0))
        b = r0
        while b < r1:
            length = min(block, r1 - b)
            start = op[DY] + column * rows + b * half
            # The number of lanes is a constant of the compiler; times `unit` it is none, see `linear`.
            product(
                Left(work_p, start, unit, half * unit, 0, 0, 0, start, unit, half * unit, length),
                Right(work_p, op[X] + i * rows, rows, b), 2 if b == r0 else 0, np.int64(0),
                Target(work_p, spare, 0, 0, width, m, False, False), none,
            )  # fmt: skip
            b += block
        for v in range(0, step, half):
            transpose_block(work, spare + v, step, work, out + (i - first + v) * half, half)


@inline
def bias_gradient(op, column, r0, r1, work, out):
    """Write the sums of a panel of DY over rows r0 .. r1 to work[out], as four partial sums of every fourth row."""
    width = lanes(work)
    stride = panel_stride(work, op[OUT], column)
    at = op[DY] + column * op[CAPACITY]
    for v in range(0, stride, width):
        zeros = load_tail(work, 0, 0)
        a, b, c, d = zeros, zeros, zeros, zeros
        i = at + v + r0 * stride
        for _ in range((r1 - r0) // 4):
            a, b = a + load(work, i), b + load(work, i + stride)
            c, d = c + load(work, i + 2 * stride), d + load(work, i + 3 * stride)
            i += 4 * stride
        for _ in range((r1 - r0) % 4):
            a = a + load(work, i)
            i += stride
        store(work, out + v, (a + b) + (c + d))
