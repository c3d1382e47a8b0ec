"""Jobs of a Linear layer: products with a fused epilogue.

The epilogue applies the bias and the activation (FORWARD), the derivative of the activation below (DELTA) or the
optimizer's update (WEIGHTS) to the finished accumulators.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numba
import numpy as np

from . import results
from .epilogue import choose, epilogue_of
from .jit import device
from .parts import adding_up, size_of_part
from .runtime import cuda
from .table import BELOW, BIAS, CHUNK, COUNTER, DELTA, FORWARD, IN, OP, OUT, PARTS, SPLITS, SUMS, WEIGHT, WEIGHTS, G
from .tensor import fragment_layout
from .tiles import U, inputs_of, mainloop, quotient, staged, this_thread, up

__all__ = ["product"]


class Extent(NamedTuple):
    """Size of a product's result and the range of inner steps of one split."""

    height: Any
    width: Any
    begin: Any
    end: Any


class Layout(NamedTuple):
    """Distribution of a tile's accumulators over threads, and the path of their epilogue.

    In a narrow float32 tile, a thread holds adjacent accumulators and stores them directly, two rows at a time. Other
    tiles are staged through shared memory, several rows at a time: stores of adjacent threads are then coalesced, and
    the epilogue is compiled once instead of once for each of 64 accumulators.
    """

    direct: bool
    at_once: int  # elements per thread and call of the epilogue
    vec4: bool  # whether each four of these are adjacent in memory
    rows: int  # rows of the tile that are staged in shared memory at once
    pitch: int  # elements from one staged row to the next


def layout_of(spec, geometry, is_wide):
    """Return the `Layout` of a product's tiles."""
    group, pitch = staged(spec.precision, np.dtype(spec.dtype), geometry)
    direct, rows = spec.precision == "float32" and not is_wide, group * geometry.each
    at_once = 2 * geometry.each if direct else rows * geometry.tile // geometry.threads
    assert direct or at_once * geometry.threads == rows * geometry.tile
    return Layout(direct, at_once, direct and geometry.each == 4, rows, pitch)


@functools.cache
def extents(kind, geometry):
    """Return f(on, now, j, o, split) -> the `Extent` of one split of job ``j``'s product."""
    DEPTH = geometry.depth

    @device
    def extent(on, now, j, o, split):
        splits = on.jobs[j, SPLITS]
        if kind == WEIGHTS:
            inner, height, width = now.rows, on.ops[o, OUT], on.ops[o, IN]
            chunk = up(inner if splits == 1 else quotient(inner + splits - 1, splits), DEPTH) * DEPTH
        else:
            inner = on.ops[o, IN] if kind == FORWARD else on.ops[o, OUT]
            height, width = now.rows, on.ops[o, OUT] if kind == FORWARD else on.ops[o, IN]
            chunk = on.jobs[j, CHUNK] if splits > 1 else inner
        return Extent(height, width, split * chunk, min((split + 1) * chunk, inner))

    return extent


@functools.cache
def multiplying(kind, spec, geometry):
    """Return the function that accumulates the tile at (row, column).

    Its parameters are (sums, ones, on, smem, now, o, row, column, of, of_bias, thread).
    """
    run_mainloop = mainloop(kind, np.dtype(spec.dtype), geometry, spec.precision, spec.async_copy)

    @device
    def multiply(sums, ones, on, smem, now, o, row, column, of, of_bias, thread):
        rows, columns, x = of.height - row, of.width - column, U(inputs_of(on, now, o).x)
        g, w = U(on.ops[o, G]), U(on.ops[o, WEIGHT])
        m, n, wide_in, wide_out = U(row), U(column), U(on.ops[o, IN]), U(on.ops[o, OUT])
        if kind == FORWARD:
            run_mainloop(
                sums, ones, smem.left, smem.right, on.work, x + m * wide_in, wide_in, on.weights, w + n * wide_in,
                wide_in, rows, columns, of.begin, of.end, of_bias, thread,
            )  # fmt: skip
        elif kind == DELTA:
            run_mainloop(
                sums, ones, smem.left, smem.right, on.work, g + m * wide_out, wide_out, on.weights, w + n, wide_in,
                rows, columns, of.begin, of.end, of_bias, thread,
            )  # fmt: skip
        else:
            run_mainloop(
                sums, ones, smem.left, smem.right, on.work, g + m, wide_out, on.work, x + n, wide_in,
                rows, columns, of.begin, of.end, of_bias, thread,
            )  # fmt: skip

    return multiply


@functools.cache
def applying_epilogue(kind, spec, layout):
    """Return f(on, epilogue, to, at, whole, values, shift, weight), the epilogue of elements ``at`` of the result."""
    dtype, kinds, AT_ONCE = np.dtype(spec.dtype), spec.kinds, layout.at_once
    scalar, zero = numba.from_dtype(dtype), dtype.type(0)
    h, derivative = choose(kinds, dtype, 0), choose(kinds, dtype, 1)
    apply_updates, _ = results.update_epilogue(spec.rule, dtype, AT_ONCE, layout.vec4)
    read_all, write_all = results.groups(AT_ONCE, layout.vec4)

    @device
    def apply_epilogue(on, epilogue, to, at, whole, values, shift, weight):
        """Apply the epilogue to accumulators at indices ``at``; return the sums of squares of w and g."""
        if kind == WEIGHTS:
            for q in range(AT_ONCE):
                at[q] = at[q] + weight if at[q] >= 0 else at[q]
            return apply_updates(on, to, at, whole, values, to.penalty != zero)
        elif kind == FORWARD:
            for q in range(AT_ONCE):
                values[0, q] += shift[q]
            if epilogue.pre >= 0:
                write_all(on.work, epilogue.pre, at, whole, values, 0)
            if epilogue.activation >= 0:
                for q in range(AT_ONCE):
                    values[0, q] = h(epilogue.activation, values[0, q], epilogue.alpha)
            write_all(on.work, epilogue.y, at, whole, values, 0)
        else:
            if epilogue.activation >= 0:
                before, after = cuda.local.array((1, AT_ONCE), scalar), cuda.local.array((1, AT_ONCE), scalar)
                for q in range(AT_ONCE):
                    after[0, q] = zero
                read_all(on.work, epilogue.y, at, whole, after, 0)
                for q in range(AT_ONCE):
                    before[0, q] = after[0, q]
                if epilogue.pre >= 0:
                    read_all(on.work, epilogue.pre, at, whole, before, 0)
                for q in range(AT_ONCE):
                    values[0, q] = values[0, q] * derivative(
                        epilogue.activation, before[0, q], after[0, q], epilogue.alpha
                    )
            write_all(on.work, epilogue.g, at, whole, values, 0)
        return zero, zero

    return apply_epilogue


@functools.cache
def writing_directly(kind, spec, geometry, layout):
    """Return the function that applies the epilogue to a thread's accumulators directly from registers.

    Its parameters are (on, smem, epilogue, to, row, column, of, sums, shift, weight, bias, thread). It returns the sums
    of squares of weights and of gradients.
    """
    dtype, EACH, AT_ONCE = np.dtype(spec.dtype), geometry.each, layout.at_once
    scalar, position_of = numba.from_dtype(dtype), fragment_layout(spec.precision, geometry)[0]
    apply_epilogue = applying_epilogue(kind, spec, layout)

    @device
    def two_rows(on, epilogue, to, m, n, height, width, whole, sums, top, shift, weight):
        """Finish rows ``top`` and ``top + 1``; a loop over row pairs would spill the accumulators to local memory."""
        at, values = cuda.local.array(AT_ONCE, numba.int64), cuda.local.array((1, AT_ONCE), scalar)
        for q in range(AT_ONCE):
            values[0, q] = sums[top + q // EACH, q % EACH]
            inside = m + q // EACH < height and n + q % EACH < width
            at[q] = (m + q // EACH) * width + n + q % EACH if inside else -1
        return apply_epilogue(on, epilogue, to, at, whole, values, shift, weight)

    @device
    def write(on, smem, epilogue, to, row, column, of, sums, shift, weight, bias, thread):
        first_row, first_column = position_of(thread)
        whole = of.width % 4 == 0 and column + first_column + 4 <= of.width
        if kind == FORWARD and bias >= 0:
            for q in range(AT_ONCE):
                if column + first_column + q % EACH < of.width:
                    shift[q] = on.weights[U(bias + column + first_column + q % EACH)]
        w_square, g_square = two_rows(
            on, epilogue, to, row + first_row, column + first_column, of.height, of.width, whole, sums, 0, shift,
            weight,
        )  # fmt: skip
        if EACH > 2:
            w, g = two_rows(
                on, epilogue, to, row + first_row + 2, column + first_column, of.height, of.width, whole, sums, 2,
                shift, weight,
            )  # fmt: skip
            w_square += w
            g_square += g
        return w_square, g_square

    return write


@functools.cache
def writing_staged(kind, spec, geometry, layout):
    """Return the function of `writing_directly` with staging through shared memory."""
    dtype, EACH, SPAN, THREADS = np.dtype(spec.dtype), geometry.each, geometry.tile, geometry.threads
    AT_ONCE, ROWS, PITCH = layout.at_once, layout.rows, layout.pitch
    scalar, zero = numba.from_dtype(dtype), dtype.type(0)
    position_of, down, along = fragment_layout(spec.precision, geometry)
    apply_epilogue = applying_epilogue(kind, spec, layout)

    @device
    def write(on, smem, epilogue, to, row, column, of, sums, shift, weight, bias, thread):
        at, values = cuda.local.array(AT_ONCE, numba.int64), cuda.local.array((1, AT_ONCE), scalar)
        w_square, g_square = zero, zero
        stage = smem.left
        first_row, first_column = position_of(thread)
        stop = SPAN + (thread >> 10)  # SPAN, but not a constant: a constant bound doubles the code of the loop
        for below in range(0, stop, ROWS):
            cuda.syncthreads()
            for i in range(EACH):
                r = first_row + down(i) - below
                if r >= 0 and r < ROWS:
                    for b in range(EACH):
                        stage[U(r * PITCH + first_column) + U(along(b))] = sums[i, b]
            cuda.syncthreads()
            for q in range(AT_ONCE):
                e = thread + q * THREADS
                m, n = row + below + e // SPAN, column + e % SPAN
                values[0, q] = stage[U(e // SPAN * PITCH + e % SPAN)]
                at[q] = m * of.width + n if m < of.height and n < of.width else -1
                if kind == FORWARD and bias >= 0 and n < of.width:
                    shift[q] = on.weights[U(bias + n)]
            w, g = apply_epilogue(on, epilogue, to, at, False, values, shift, weight)
            w_square += w
            g_square += g
        return w_square, g_square

    return write


@functools.cache
def bias_gradient_of(spec, geometry):
    """Return f(on, smem, to, row, height, bias, ones, squares, thread) that applies a tile's gradient of the bias.

    It returns ``squares`` plus the squares of this gradient.
    """
    dtype, EACH, SIDE = np.dtype(spec.dtype), geometry.each, geometry.side
    SPAN, THREADS, zero = geometry.tile, geometry.threads, dtype.type(0)
    apply_update = results.update_epilogue_one(spec.rule, dtype)

    @device
    def bias_gradient(on, smem, to, row, height, bias, ones, squares, thread):
        ty, tx, stage = thread // SIDE, thread % SIDE, smem.left
        cuda.syncthreads()
        for i in range(EACH):
            stage[U((tx + i * SIDE) * (SIDE + 1) + ty)] = ones[i]
        cuda.syncthreads()
        for r in range(thread, min(SPAN, height - row), THREADS):
            v = zero
            for t in range(SIDE):
                v += stage[U(r * (SIDE + 1) + t)]
            _, g = apply_update(on, to, bias + row + r, v, False)
            squares += g
        return squares

    return bias_gradient


@functools.cache
def product(kind, spec, geometry, is_wide=False):
    """Return f(on, smem, now, j, row, column, split, number) for one split of tile ``number`` of job ``j``'s product.

    The tile begins at (row, column) of the result. Without split-K, the only split is the entire product.
    """
    dtype, EACH, layout = np.dtype(spec.dtype), geometry.each, layout_of(spec, geometry, is_wide)
    scalar, zero = numba.from_dtype(dtype), dtype.type(0)
    AT_ONCE = layout.at_once
    extent, multiply = extents(kind, geometry), multiplying(kind, spec, geometry)
    add_up, SIZE = adding_up(dtype, geometry, kind == WEIGHTS), size_of_part(geometry, kind == WEIGHTS)
    write = (writing_directly if layout.direct else writing_staged)(kind, spec, geometry, layout)
    bias_gradient, add_squares = bias_gradient_of(spec, geometry), results.accumulate_squares(geometry.threads)
    settings_of = results.settings(spec.rule, dtype)

    @device
    def run(on, smem, now, j, row, column, split, number):
        sums, ones = cuda.local.array((EACH, EACH), scalar), cuda.local.array(EACH, scalar)
        shift = cuda.local.array(AT_ONCE, scalar)
        thread = this_thread()
        o, splits = U(on.jobs[j, OP]), on.jobs[j, SPLITS]
        of, weight, bias = extent(on, now, j, o, split), on.ops[o, WEIGHT], on.ops[o, BIAS]
        of_bias = column == 0 and bias >= 0
        multiply(sums, ones, on, smem, now, o, row, column, of, of_bias, thread)
        if not is_wide and splits > 1:  # products with wide tiles have enough tiles without split-K
            first = on.jobs[j, PARTS] + number * splits * SIZE
            if not add_up(on, smem, sums, ones, first, on.jobs[j, COUNTER] + number, splits, split, thread):
                return
        to = settings_of(on, now)
        epilogue = epilogue_of(on, o if kind == FORWARD else U(max(on.ops[o, BELOW], 0)))
        for q in range(AT_ONCE):
            shift[q] = zero
        w_square, g_square = write(on, smem, epilogue, to, row, column, of, sums, shift, weight, bias, thread)
        if kind == WEIGHTS:
            if of_bias:
                g_square = bias_gradient(on, smem, to, row, of.height, bias, ones, g_square, thread)
            add_squares(on, smem, on.jobs[j, SUMS] + number, w_square, g_square)

    return run
