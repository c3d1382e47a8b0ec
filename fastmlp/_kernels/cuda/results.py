"""Epilogues applied to finished accumulators: grouped loads and stores, and the optimizer's update.

The latency of one dependent load equals that of hundreds of instructions, and the compiler cannot prove that the stores
in between do not alias later loads. All loads are therefore issued before the first store. Adjacent elements are loaded
and stored four at a time.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numba
import numpy as np

from ..op_columns import CLIP_NORM, CLIP_VALUE, NEW_SHARE
from .assembly import load4, store4
from .block_reduce import block_reduce
from .jit import device
from .rules import rule as rule_of
from .runtime import cuda
from .table import AVERAGE_PLANE, GRADIENTS, PLANE
from .tiles import U

__all__ = ["Settings", "groups", "accumulate_squares", "settings", "update_epilogue", "update_epilogue_one"]


class Settings(NamedTuple):
    """Parameters of an optimizer update, apart from the gradient."""

    plane: Any
    average: Any
    gradients: Any
    bound: Any
    keeps: Any
    share: Any
    penalty: Any
    numbers: Any


@functools.cache
def settings(rule, dtype):
    """Return f(on, now) that loads the `Settings` of a step, once for many elements."""
    numbers_of, zero = rule_of(rule, dtype)[0], np.dtype(dtype).type(0)

    @device
    def read(on, now):
        return Settings(
            on.run_params[PLANE], on.run_params[AVERAGE_PLANE], on.run_params[GRADIENTS], on.clip_params[CLIP_VALUE],
            on.clip_params[CLIP_NORM] > zero, on.clip_params[NEW_SHARE], now.penalty, numbers_of(on, now.h),
        )  # fmt: skip

    return read


@functools.cache
def groups(count, vec4):
    """Return (read, write) for ``count`` elements array[base + at[q]]; elements with at[q] < 0 are skipped.

    read(array, base, at, whole, values, i) loads the elements to values[i, q]; write(...) stores them from there. If
    ``vec4`` and ``whole`` are true, each group of four is adjacent in memory, starts at a multiple of four and is
    skipped or kept as a group.
    """

    @device
    def read(array, base, at, whole, values, i):
        if vec4 and whole:
            for q in range(0, count, 4):
                if at[q] >= 0:
                    values[i, q], values[i, q + 1], values[i, q + 2], values[i, q + 3] = load4(
                        array, U(base) + U(at[q])
                    )
        else:
            for q in range(count):
                if at[q] >= 0:
                    values[i, q] = array[U(base) + U(at[q])]

    @device
    def write(array, base, at, whole, values, i):
        if vec4 and whole:
            for q in range(0, count, 4):
                if at[q] >= 0:
                    store4(
                        array, U(base) + U(at[q]), values[i, q], values[i, q + 1], values[i, q + 2], values[i, q + 3]
                    )
        else:
            for q in range(count):
                if at[q] >= 0:
                    array[U(base) + U(at[q])] = values[i, q]

    return read, write


@functools.cache
def update_epilogue(rule, dtype, count, vec4=False):
    """Return (apply_update, apply) for ``count`` gradients g[0, q] of weights[at[q]], see `groups`.

    apply_update(on, to, at, whole, g, penalized) takes finished gradients. It applies them, or stores them if the norm
    is clipped, and returns the sums of squares of w and g. apply(on, to, at, whole, g, old) performs the step of the
    optimizer and of the weight average; ``old (4, count)`` is a work array.
    """
    scalar, zero = numba.from_dtype(np.dtype(dtype)), np.dtype(dtype).type(0)
    _, has, step = rule_of(rule, dtype)
    read, write = groups(count, vec4)

    def planes(move):
        @device
        def each(on, to, at, whole, old):
            """Load or store the parameters and the existing states, one plane each."""
            first, second, third, fourth = has(to.numbers)
            if first:
                move(on.weights, 0, at, whole, old, 0)
            if second:
                move(on.weights, to.plane, at, whole, old, 1)
            if third:
                move(on.weights, 2 * to.plane, at, whole, old, 2)
            if fourth:
                move(on.weights, 3 * to.plane, at, whole, old, 3)

        return each

    read_planes, write_planes = planes(read), planes(write)

    @device
    def load(on, to, at, whole, old):
        for i in range(4):
            for q in range(count):
                old[i, q] = zero
        read_planes(on, to, at, whole, old)

    @device
    def update(on, to, at, whole, g, old):
        for q in range(count):
            old[0, q], old[1, q], old[2, q], old[3, q] = step(
                g[0, q], to.numbers, old[0, q], old[1, q], old[2, q], old[3, q]
            )
        write_planes(on, to, at, whole, old)
        if to.share > zero:
            for q in range(count):
                if at[q] >= 0:
                    a = U(to.average) + U(at[q])
                    on.weights[a] += to.share * (old[0, q] - on.weights[a])

    @device
    def apply(on, to, at, whole, g, old):
        load(on, to, at, whole, old)
        update(on, to, at, whole, g, old)

    @device
    def apply_update(on, to, at, whole, g, penalized):
        old = cuda.local.array((4, count), scalar)
        w_square, g_square = zero, zero
        if not to.keeps:
            load(on, to, at, whole, old)
        elif penalized:
            read(on.weights, 0, at, whole, old, 0)
        for q in range(count):
            if at[q] >= 0:
                if penalized:
                    g[0, q] = g[0, q] + to.penalty * old[0, q]
                    w_square += old[0, q] * old[0, q]
                if to.bound > zero:  # NaN passes through
                    g[0, q] = to.bound if g[0, q] > to.bound else -to.bound if g[0, q] < -to.bound else g[0, q]
                if to.keeps:
                    g_square += g[0, q] * g[0, q]
        if to.keeps:
            write(on.work, to.gradients, at, whole, g, 0)
        else:
            update(on, to, at, whole, g, old)
        return w_square, g_square

    return apply_update, apply


@functools.cache
def update_epilogue_one(rule, dtype):
    """Return f(on, to, p, g, penalized): `update_epilogue` for the gradient g of the single element weights[p]."""
    scalar, (settle_one, _) = numba.from_dtype(np.dtype(dtype)), update_epilogue(rule, dtype, 1)

    @device
    def apply_update(on, to, p, g, penalized):
        at, gradient = cuda.local.array(1, numba.int64), cuda.local.array((1, 1), scalar)
        at[0], gradient[0, 0] = p, g
        return settle_one(on, to, at, False, gradient, penalized)

    return apply_update


@functools.cache
def accumulate_squares(threads):
    """Return f(on, smem, number, w_square, g_square) that stores a block's sums of squares if they are needed."""
    block_sum, double = block_reduce(threads), np.float64

    @device
    def add_squares(on, smem, number, w_square, g_square):
        if on.sums.size > 0:
            w, g = block_sum(double(w_square), smem.doubles), block_sum(double(g_square), smem.doubles)
            if cuda.threadIdx.x == 0:
                on.sums[number], on.sums[on.sums.size // 2 + number] = w, g

    return add_squares
