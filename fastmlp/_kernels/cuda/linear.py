"""The jobs of a Linear layer: products whose sums are finished where they are, by bias and activation, by the slope of
the activation below, or by the optimizer.
"""

from __future__ import annotations

import functools

import numba
import numpy as np

from . import results
from .ends import choose, ends_of
from .jit import device
from .parts import adding_up, size_of_part
from .runtime import cuda
from .table import BELOW, BIAS, CHUNK, COUNTER, DELTA, FORWARD, IN, OP, OUT, PARTS, SPLITS, SUMS, WEIGHT, WEIGHTS, G
from .tensor import held
from .tiles import U, accumulate, inputs_of, quotient, staged, this_thread, up

__all__ = ["product"]


@functools.cache
def product(kind, spec, geometry, is_wide=False):
    """f(on, own, now, j, row, column, split, number): a part of tile ``number`` of job ``j``'s product, or all of it.

    The tile begins at (row, column) of the result.
    """
    dtype, kinds = np.dtype(spec.dtype), spec.kinds
    scalar, zero = numba.from_dtype(dtype), dtype.type(0)
    SIDE, THREADS = geometry.side, geometry.threads
    h, slope = choose(kinds, dtype, 0), choose(kinds, dtype, 1)
    note, settle = results.noting(THREADS), results.settling_one(spec.rule, dtype)
    settings_of = results.settings(spec.rule, dtype)
    group, PITCH = staged(spec.precision, dtype, geometry)
    EACH, DEPTH, SPAN, ROWS = geometry.each, geometry.depth, geometry.tile, group * geometry.each
    fill = accumulate(kind, dtype, geometry, spec.precision, spec.later)
    place, down, along = held(spec.precision, geometry)
    # A thread of a narrow tile has sums that stand side by side: it writes them itself, two rows at a time. Those
    # of others go by way of shared memory, some rows at a time: neighbours then write to neighbouring addresses,
    # and what follows a sum is compiled once, not for each of 64.
    direct = spec.precision == "float32" and not is_wide
    AT_ONCE = 2 * EACH if direct else ROWS * SPAN // THREADS
    fours = direct and EACH == 4
    add_up, SIZE = adding_up(dtype, geometry, kind == WEIGHTS), size_of_part(geometry, kind == WEIGHTS)
    settle_all, _ = results.settling(spec.rule, dtype, AT_ONCE, fours)
    read_all, write_all = results.groups(AT_ONCE, fours)
    assert direct or AT_ONCE * THREADS == ROWS * SPAN

    @device
    def finish_all(on, ends, to, at, whole, values, shift, weight):
        """What becomes of some sums, at their places in the result; (squares of w and g)."""
        if kind == WEIGHTS:
            for q in range(AT_ONCE):
                at[q] = at[q] + weight if at[q] >= 0 else at[q]
            return settle_all(on, to, at, whole, values, to.penalty != zero)
        elif kind == FORWARD:
            for q in range(AT_ONCE):
                values[0, q] += shift[q]
            if ends.pre >= 0:
                write_all(on.work, ends.pre, at, whole, values, 0)
            if ends.activation >= 0:
                for q in range(AT_ONCE):
                    values[0, q] = h(ends.activation, values[0, q], ends.alpha)
            write_all(on.work, ends.y, at, whole, values, 0)
        else:
            if ends.activation >= 0:
                before, after = cuda.local.array((1, AT_ONCE), scalar), cuda.local.array((1, AT_ONCE), scalar)
                for q in range(AT_ONCE):
                    after[0, q] = zero
                read_all(on.work, ends.y, at, whole, after, 0)
                for q in range(AT_ONCE):
                    before[0, q] = after[0, q]
                if ends.pre >= 0:
                    read_all(on.work, ends.pre, at, whole, before, 0)
                for q in range(AT_ONCE):
                    values[0, q] = values[0, q] * slope(ends.activation, before[0, q], after[0, q], ends.alpha)
            write_all(on.work, ends.g, at, whole, values, 0)
        return zero, zero

    @device
    def two_rows(on, ends, to, m, n, height, width, whole, sums, top, shift, weight):
        """Rows ``top`` and the next of a thread's sums; no loop over them, which would keep its sums in memory."""
        at, values = cuda.local.array(AT_ONCE, numba.int64), cuda.local.array((1, AT_ONCE), scalar)
        for q in range(AT_ONCE):
            values[0, q] = sums[top + q // EACH, q % EACH]
            inside = m + q // EACH < height and n + q % EACH < width
            at[q] = (m + q // EACH) * width + n + q % EACH if inside else -1
        return finish_all(on, ends, to, at, whole, values, shift, weight)

    @device
    def run(on, own, now, j, row, column, split, number):
        sums, ones = cuda.local.array((EACH, EACH), scalar), cuda.local.array(EACH, scalar)
        shift = cuda.local.array(AT_ONCE, scalar)
        thread = this_thread()
        o, splits = U(on.jobs[j, OP]), on.jobs[j, SPLITS]
        ty, tx = thread // SIDE, thread % SIDE
        if kind == WEIGHTS:
            inner, height, width = now.rows, on.ops[o, OUT], on.ops[o, IN]
            chunk = up(inner if splits == 1 else quotient(inner + splits - 1, splits), DEPTH) * DEPTH
        else:
            inner = on.ops[o, IN] if kind == FORWARD else on.ops[o, OUT]
            height, width = now.rows, on.ops[o, OUT] if kind == FORWARD else on.ops[o, IN]
            chunk = on.jobs[j, CHUNK] if splits > 1 else inner
        begin, end, inputs = split * chunk, min((split + 1) * chunk, inner), inputs_of(on, now, o)
        weight, bias = on.ops[o, WEIGHT], on.ops[o, BIAS]
        rows, columns, x, g, w = height - row, width - column, U(inputs.x), U(on.ops[o, G]), U(weight)
        m, n, wide_in, wide_out = U(row), U(column), U(on.ops[o, IN]), U(on.ops[o, OUT])
        left, right, of_bias = own.left, own.right, column == 0 and bias >= 0
        if kind == FORWARD:
            fill(
                sums, ones, left, right, on.work, x + m * wide_in, wide_in, on.weights, w + n * wide_in, wide_in,
                rows, columns, begin, end, of_bias, thread,
            )  # fmt: skip
        elif kind == DELTA:
            fill(
                sums, ones, left, right, on.work, g + m * wide_out, wide_out, on.weights, w + n, wide_in,
                rows, columns, begin, end, of_bias, thread,
            )  # fmt: skip
        else:
            fill(
                sums, ones, left, right, on.work, g + m, wide_out, on.work, x + n, wide_in,
                rows, columns, begin, end, of_bias, thread,
            )  # fmt: skip
        if not is_wide and splits > 1:  # wide tiles are many
            first = on.jobs[j, PARTS] + number * splits * SIZE
            if not add_up(on, own, sums, ones, first, on.jobs[j, COUNTER] + number, splits, split, thread):
                return
        to = settings_of(on, now)
        ends = ends_of(on, o if kind == FORWARD else U(max(on.ops[o, BELOW], 0)))
        w_square, g_square = zero, zero
        stage = own.left
        first, beside = place(thread)
        for q in range(AT_ONCE):
            shift[q] = zero
        if direct:
            whole = width % 4 == 0 and column + beside + 4 <= width
            if kind == FORWARD and bias >= 0:
                for q in range(AT_ONCE):
                    if column + beside + q % EACH < width:
                        shift[q] = on.weights[U(bias + column + beside + q % EACH)]
            w_square, g_square = two_rows(
                on, ends, to, row + first, column + beside, height, width, whole, sums, 0, shift, weight,
            )  # fmt: skip
            if EACH > 2:
                w, g = two_rows(
                    on, ends, to, row + first + 2, column + beside, height, width, whole, sums, 2, shift, weight,
                )  # fmt: skip
                w_square += w
                g_square += g
        else:
            at, values = cuda.local.array(AT_ONCE, numba.int64), cuda.local.array((1, AT_ONCE), scalar)
            stop = SPAN + (thread >> 10)  # SPAN, but not known: the loop would be twice the code
            for below in range(0, stop, ROWS):
                cuda.syncthreads()
                for i in range(EACH):
                    r = first + down(i) - below
                    if r >= 0 and r < ROWS:
                        for b in range(EACH):
                            stage[U(r * PITCH + beside) + U(along(b))] = sums[i, b]
                cuda.syncthreads()
                for q in range(AT_ONCE):
                    e = thread + q * THREADS
                    m, n = row + below + e // SPAN, column + e % SPAN
                    values[0, q] = stage[U(e // SPAN * PITCH + e % SPAN)]
                    at[q] = m * width + n if m < height and n < width else -1
                    if kind == FORWARD and bias >= 0 and n < width:
                        shift[q] = on.weights[U(bias + n)]
                w, g = finish_all(on, ends, to, at, False, values, shift, weight)
                w_square += w
                g_square += g
        if kind == WEIGHTS:
            if of_bias:  # a thread for each of its elements
                cuda.syncthreads()
                for i in range(EACH):
                    stage[U((tx + i * SIDE) * (SIDE + 1) + ty)] = ones[i]
                cuda.syncthreads()
                for r in range(thread, min(SPAN, height - row), THREADS):
                    v = zero
                    for t in range(SIDE):
                        v += stage[U(r * (SIDE + 1) + t)]
                    _, g = settle(on, to, bias + row + r, v, False)
                    g_square += g
            note(on, own, on.jobs[j, SUMS] + number, w_square, g_square)

    return run
