"""A run of training steps in one launch: the persistent kernel, whose blocks wait for each other between stages.

A step is a list of stages, see `table` and `fastmlp.engine.gpu_plan`. In a SPREAD stage each tile of each job is some
block's; in a CHAIN each stretch of rows goes through all jobs in one block, which waits for nobody in between. Rows of
the batch depend on no others but in the stages that compute gradients of weights, and there the optimizer's formula
follows at once.

Which block does what changes no result: every sum has its order from the tables alone.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numba
import numpy as np

from . import columns, results
from . import jobs as job
from .assembly import matrix, vector
from .augmenting import augmenting
from .ends import activation, ends_of, through
from .gathering import gathering
from .grid import wait_for_grid
from .halving import halving
from .jit import alone, device
from .linear import product
from .runtime import cuda
from .spec import Spec
from .table import (
    ACTIVATE,
    ACTIVATE_BACK,
    BELOW,
    BIAS,
    BY_COLUMN,
    BY_COLUMN_BACK,
    CHECKS,
    CLIP_NORM,
    CLIPS,
    COLUMN_GRADIENT,
    CONTROL,
    COUNTERS,
    DELTA,
    DEVIATIONS,
    DROP,
    DROP_BACK,
    FIRST_JOB,
    FORWARD,
    FROM,
    GATHER,
    GATHERED,
    HYPER,
    IN,
    JOB_COLUMNS,
    JOB_COUNT,
    KIND,
    LAST_JOB,
    LISTS,
    LOSS,
    MEANS,
    METERS,
    NORM,
    NORM_BACK,
    NORM_GRADIENT,
    NORMALIZE,
    NORMALIZE_BACK,
    NUMBERS,
    OP,
    OP_COLUMNS,
    OP_COUNT,
    OUT,
    PLANE,
    ROW_COUNT,
    RSTDS,
    SHARES,
    SOFTMAX,
    SOFTMAX_BACK,
    SPLITS,
    SQUARES,
    STAGE_COLUMNS,
    STAGE_COUNT,
    STEPS,
    SUM_COUNT,
    SUMS,
    TILES,
    UPDATE,
    WEIGHT,
    WEIGHTS,
    WIDE,
)  # fmt: skip
from .tiles import (
    NARROW,
    WIDE_TILES,
    Geometry,
    Memory,
    Now,
    Scratch,
    U,
    buffers,
    features,
    inputs_of,
    quotient,
    up,
)

__all__ = ["BESIDE", "EACH_ITEM", "steps_kernel"]

_REGISTERS = 1 << 16  # of a multiprocessor
BESIDE = 2  # blocks on a multiprocessor, where there is work for as many: one works while the other waits
EACH_ITEM = 4  # elements of a thread in an item of an UPDATE
TABLES = 768  # entries of the tables that have room in a block's shared memory: those of some ten layers


@functools.cache
def steps_kernel(
    spec: Spec,
    narrow: Geometry = NARROW,
    wide: Geometry = WIDE_TILES,
    wait: Any = wait_for_grid,
    each_item: int = EACH_ITEM,
) -> Any:
    """The kernel for ``spec``; the other arguments are for machines that are simulated.

    kernel(data, labels, targets, row_weights, order, work, weights, ints, reals, results): ``data (N, I)`` the
    features; ``labels (N,)`` or ``targets (N, O)``, ``row_weights (N,)`` or none; ``order`` the batches' rows, where
    they are not among ``ints``; ``work`` and ``weights`` as the plan has laid them out; the others are lists of lists,
    see `table`. Batch s are the rows order[bounds[s]] .. bounds[s + 1]; penalties[s] is l2 over its rows or their
    weights. Of losses that are not finite one is written, and no step made with it. ``parts`` are the losses of
    stretches of rows, ``sums`` those of squares of weights and of gradients, or empty where nobody needs them.
    """
    dtype, kinds = np.dtype(spec.dtype), spec.kinds
    T, scalar = dtype.type, numba.from_dtype(dtype)
    zero, one, double = T(0), T(1), np.float64
    SIDE, THREADS, TILE = narrow.side, narrow.threads, narrow.tile
    WIDE_TILE = wide.tile if spec.wide else TILE
    # Of slices of a tile, or of the shares in a bias's gradient.
    geometries = (narrow, wide) if spec.wide else (narrow,)
    ROOM = max(buffers(dtype, g) * g.tile * g.depth for g in geometries)
    ROOM = max(ROOM, *(g.tile * (g.side + 1) for g in geometries), 1)
    ITEM = THREADS * each_item
    activate, gather = activation(kinds, dtype), (augmenting if spec.augments else gathering)(dtype, narrow)
    fold, note, settle = halving(THREADS), results.noting(THREADS), results.settling_one(spec.rule, dtype)
    write_one, settings_of = through(kinds, dtype), results.settings(spec.rule, dtype)
    if spec.loss == "cross_entropy":
        compute_loss = job.entropy(dtype, narrow, kinds, spec.from_logits, spec.by_index, spec.augments)
    else:
        compute_loss = job.elementwise_loss(dtype, narrow, kinds, spec.loss, spec.augments)

    @device
    def absent(on, own, now, o, row):
        """In the place of a job of rows that the net has not, which would have to be compiled."""

    norm, norm_back = (job.layer_norm(dtype, narrow, kinds, backward) for backward in (False, True))
    soft, soft_back = (job.softmax(dtype, narrow, kinds, backward) for backward in (False, True))
    drop, drop_back = (job.dropping(dtype, narrow, kinds, backward) for backward in (False, True))
    norm, norm_back = norm if NORM in spec.jobs else absent, norm_back if NORM_BACK in spec.jobs else absent
    soft, soft_back = soft if SOFTMAX in spec.jobs else absent, soft_back if SOFTMAX_BACK in spec.jobs else absent
    drop, drop_back = drop if DROP in spec.jobs else absent, drop_back if DROP_BACK in spec.jobs else absent
    scaled, scaled_back = (job.normalizing(dtype, narrow, kinds, backward) for backward in (False, True))
    scaled = scaled if NORMALIZE in spec.jobs else absent
    scaled_back = scaled_back if NORMALIZE_BACK in spec.jobs else absent

    by_column = by_column_back = absent
    if BY_COLUMN in spec.jobs:
        by_column, by_column_back = (
            columns.by_column(dtype, narrow, kinds, spec.columns, back) for back in (False, True)
        )

    # ------------------------------------------------------------------------- jobs that are products

    forward, delta, gradient = (product(kind, spec, narrow) for kind in (FORWARD, DELTA, WEIGHTS))

    @device
    def no_product(on, own, now, j, row, column, split, number):
        """As `absent`: the compiler does not see that two are the same."""

    wide_forward = wide_delta = wide_gradient = no_product
    if spec.wide:
        wide_forward, wide_delta, wide_gradient = (
            product(kind, spec, wide, True) for kind in (FORWARD, DELTA, WEIGHTS)
        )

    # ------------------------------------------------------------------------------------- other jobs

    @device
    def loss(on, own, now, o, row):
        """The losses of a stretch of rows, with their gradient; and their sum."""
        compute_loss(on, own, now, o, row)
        cuda.syncthreads()
        r, total = cuda.threadIdx.x, double(0)
        if r < min(TILE, now.rows - row):
            total = double(own.losses[r])
        total = fold(total, own.doubles)
        if r == 0:
            on.parts[row // TILE] = total

    @device
    def element(on, own, now, o, row, backward):
        """An activation by itself, of a stretch of rows."""
        inputs, own_ends, ends = inputs_of(on, now, o), ends_of(on, o), ends_of(on, U(max(on.ops[o, BELOW], 0)))
        width = inputs.width
        for i in range(row * width + cuda.threadIdx.x, min(now.rows, row + TILE) * width, THREADS):
            if backward:
                write_one(on, ends, i, on.work[own_ends.g + i])
            else:
                activate(on, own_ends, i, features(on, inputs, i // width, i % width))

    @device
    def activated(on, own, now, o, row):
        element(on, own, now, o, row, False)

    @device
    def activated_back(on, own, now, o, row):
        element(on, own, now, o, row, True)

    if ACTIVATE not in spec.jobs:
        activated = absent
    if ACTIVATE_BACK not in spec.jobs:
        activated_back = absent

    @device
    def norm_gradient(on, own, now, j, item):
        """The gradients of SIDE columns of a layer norm's weight and bias; a thread's rows are SIDE apart."""
        o = U(on.jobs[j, OP])
        ty, tx = cuda.threadIdx.x // SIDE, cuda.threadIdx.x % SIDE
        inputs, ends, to, means, rstds = (
            inputs_of(on, now, o), ends_of(on, o), settings_of(on, now), on.ops[o, MEANS], on.ops[o, RSTDS],
        )  # fmt: skip
        column, width, weight, bias = item * SIDE + tx, on.ops[o, IN], on.ops[o, WEIGHT], on.ops[o, BIAS]
        w, b, squares = zero, zero, zero
        if column < width:
            for r in range(ty, now.rows, SIDE):
                g = on.work[ends.g + r * width + column]
                z = (features(on, inputs, r, column) - on.work[means + r]) * on.work[rstds + r]
                w += g * z
                b += g
        for which in range(2):
            own.square[tx, ty] = w if which == 0 else b
            cuda.syncthreads()
            if ty == 0 and column < width:
                total = zero
                for i in range(SIDE):
                    total += own.square[tx, i]
                _, g = settle(on, to, (weight if which == 0 else bias) + column, total, False)
                squares += g
            cuda.syncthreads()
        note(on, own, on.jobs[j, SUMS] + item, zero, squares)

    _, apply_some = results.settling(spec.rule, dtype, each_item)
    read_gradients, _ = results.groups(each_item, False)

    @device
    def apply_all(on, own, now, j, item):
        """Some of the gradients that were kept, clipped."""
        to = settings_of(on, now)
        at, g = cuda.local.array(each_item, numba.int64), cuda.local.array((1, each_item), scalar)
        old = cuda.local.array((4, each_item), scalar)
        for q in range(each_item):
            p = item * ITEM + q * THREADS + cuda.threadIdx.x
            at[q] = p if p < to.plane else -1
            g[0, q] = zero
        read_gradients(on.work, to.gradients, at, False, g, 0)
        if not now.clip >= one:  # a norm that is NaN must reach the parameters, not vanish
            for q in range(each_item):
                g[0, q] = g[0, q] * now.clip
        apply_some(on, to, at, False, g, old)

    column_gradient = absent
    if COLUMN_GRADIENT in spec.jobs:
        column_gradient = columns.column_gradient(dtype, narrow, spec.columns, settle, note, settings_of)
    if NORM_GRADIENT not in spec.jobs:
        norm_gradient = absent
    if UPDATE not in spec.jobs:
        apply_all = absent

    @device
    def total_of(values, first, count, own):
        """The sum of some of an array's numbers, the same in each block."""
        total = double(0)
        for i in range(cuda.threadIdx.x, count, THREADS):
            total += values[first + i]
        return fold(total, own.doubles)

    @device
    def items_of(on, now, j, kind):
        """How many items a job, or each of a product's parts, has in a SPREAD stage."""
        o, tiles = U(on.jobs[j, OP]), on.jobs[j, TILES]
        if kind == UPDATE:
            return up(on.meters[PLANE], ITEM)
        if kind == NORM_GRADIENT or kind == COLUMN_GRADIENT:
            return tiles
        if kind == GATHER:
            return up(now.next_rows, TILE) * tiles
        height = on.ops[o, OUT] if kind == WEIGHTS else now.rows
        return (up(height, WIDE_TILE) if on.jobs[j, WIDE] != 0 else up(height, TILE)) * tiles

    @device
    def do(on, own, now, j, row, column, split, tile, item):
        """One item of a job: a part of a product's tile, or a tile, or whatever it is of other jobs."""
        kind, o, is_wide = on.jobs[j, KIND], U(on.jobs[j, OP]), on.jobs[j, WIDE] != 0
        if kind == FORWARD and is_wide:
            wide_forward(on, own, now, j, row, column, split, tile)
        elif kind == FORWARD:
            forward(on, own, now, j, row, column, split, tile)
        elif kind == DELTA and is_wide:
            wide_delta(on, own, now, j, row, column, split, tile)
        elif kind == DELTA:
            delta(on, own, now, j, row, column, split, tile)
        elif kind == WEIGHTS and is_wide:
            wide_gradient(on, own, now, j, row, column, split, tile)
        elif kind == WEIGHTS:
            gradient(on, own, now, j, row, column, split, tile)
        elif kind == LOSS:
            loss(on, own, now, o, row)
        elif kind == ACTIVATE:
            activated(on, own, now, o, row)
        elif kind == ACTIVATE_BACK:
            activated_back(on, own, now, o, row)
        elif kind == DROP:
            drop(on, own, now, o, row)
        elif kind == DROP_BACK:
            drop_back(on, own, now, o, row)
        elif kind == NORM:
            norm(on, own, now, o, row)
        elif kind == NORM_BACK:
            norm_back(on, own, now, o, row)
        elif kind == SOFTMAX:
            soft(on, own, now, o, row)
        elif kind == SOFTMAX_BACK:
            soft_back(on, own, now, o, row)
        elif kind == NORMALIZE:
            scaled(on, own, now, o, row)
        elif kind == NORMALIZE_BACK:
            scaled_back(on, own, now, o, row)
        elif kind == BY_COLUMN:
            by_column(on, own, now, o, row)
        elif kind == BY_COLUMN_BACK:
            by_column_back(on, own, now, o, row)
        elif kind == COLUMN_GRADIENT:
            column_gradient(on, own, now, j, item)
        elif kind == NORM_GRADIENT:
            norm_gradient(on, own, now, j, item)
        elif kind == UPDATE:
            apply_all(on, own, now, j, item)
        elif kind == GATHER:
            gather(on, now.s + 1, now.next_first, now.next_rows, now.next_x, row, column)

    # ----------------------------------------------------------------------------------------- stages

    @device
    def work_through(on, own, now, chained, first_job, last_job):
        """This block's share of a stage; ``chained`` is 1 or 0.

        As a number, since of a condition that does not change in the loops the compiler makes two of all that is in
        them.
        """
        blocks, spread = cuda.gridDim.x, 1 - chained
        for stretch in range(
            cuda.blockIdx.x * chained, up(now.rows, TILE) * chained + spread, blocks * chained + spread
        ):
            for number in range(first_job, last_job):
                # In a SPREAD stage the items of all jobs are dealt out to the blocks in turn.
                j = U(number)
                kind, tiles, first = on.jobs[j, KIND], on.jobs[j, TILES], on.jobs[j, FROM]
                of_part = tiles * chained + items_of(on, now, j, kind) * spread
                splits = on.jobs[j, SPLITS] if kind == FORWARD or kind == DELTA or kind == WEIGHTS else 1
                start = cuda.blockIdx.x - first if first < blocks else cuda.blockIdx.x
                start = (start + blocks if start < 0 else start) * spread
                span = WIDE_TILE if on.jobs[j, WIDE] != 0 else TILE
                for item in range(start, of_part * splits, chained + blocks * spread):
                    split = 0 if splits == 1 else quotient(item, of_part)
                    at = item - split * of_part
                    down = at if tiles == 1 else quotient(at, tiles)
                    do(on, own, now, j, stretch * TILE + down * span, (at - down * tiles) * span, split, at, item)
                cuda.syncthreads()

    @alone(None if spec.beside == 1 else _REGISTERS // (spec.beside * THREADS))
    def steps(data, labels, targets, row_weights, order, work, weights, ints, reals, results):
        count, per_step = ints[STEPS], ints[HYPER]
        # The tables are looked up again and again; after each barrier they would come from afar.
        size = METERS + ints[OP_COUNT] * OP_COLUMNS + ints[JOB_COUNT] * JOB_COLUMNS + ints[STAGE_COUNT] * STAGE_COLUMNS
        near = cuda.shared.array(TABLES, numba.int64)
        tables = vector(ints, LISTS, size)
        if size <= TABLES:
            for i in range(cuda.threadIdx.x, size, THREADS):
                near[i] = tables[i]
            tables = vector(near, 0, size)
        cuda.syncthreads()
        meters = vector(tables, 0, METERS)
        ops = matrix(tables, METERS, ints[OP_COUNT], OP_COLUMNS)
        at = METERS + ints[OP_COUNT] * OP_COLUMNS
        jobs = matrix(tables, at, ints[JOB_COUNT], JOB_COLUMNS)
        at += ints[JOB_COUNT] * JOB_COLUMNS
        stages = matrix(tables, at, ints[STAGE_COUNT], STAGE_COLUMNS)
        at = LISTS + size
        bounds = vector(ints, at, count + 1)
        at += count + 1
        counters = vector(ints, at, ints[COUNTERS])
        at += ints[COUNTERS]
        shifts = vector(ints, at, ints[SHARES])
        if ints[ROW_COUNT] > 0:
            order = vector(ints, at + ints[SHARES], ints[ROW_COUNT])
        control = vector(ints, CONTROL, 1)
        clips, normalizers = vector(reals, 0, CLIPS), vector(reals, CLIPS, count)
        penalties = vector(reals, CLIPS + count, count)
        at = CLIPS + 2 * count
        numbers = matrix(reals, at, ints[OP_COUNT], NUMBERS)
        at += ints[OP_COUNT] * NUMBERS
        hyper = vector(reals, at, count * per_step)
        at += count * per_step
        shares, deviations = vector(reals, at, ints[SHARES]), vector(reals, at + ints[SHARES], ints[DEVIATIONS])
        losses, shown = vector(results, 1, count), vector(results, 1 + count, count)
        at = 1 + 2 * count
        sums = vector(results, at, ints[SUM_COUNT])
        parts = vector(results, at + ints[SUM_COUNT], results.size - at - ints[SUM_COUNT])
        left, right = cuda.shared.array(ROOM, scalar, alignment=16), cuda.shared.array(ROOM, scalar, alignment=16)
        square = cuda.shared.array((SIDE, SIDE), scalar)
        of_rows = cuda.shared.array(TILE, scalar)
        doubles = cuda.shared.array(THREADS, numba.float64)
        number = cuda.shared.array(1, numba.int64)
        own = Scratch(left, right, square, of_rows, doubles, number)
        on = Memory(
            data, order, labels, targets, row_weights, hyper, clips, ops, numbers, jobs, meters, work, weights, sums,
            parts, counters, shares, shifts, deviations,
        )  # fmt: skip
        leads = cuda.blockIdx.x == 0 and cuda.threadIdx.x == 0
        turn, made, alive = 0, 0, True
        rows, tiles = bounds[1] - bounds[0], up(ops[0, IN], TILE)
        for item in range(cuda.blockIdx.x, up(rows, TILE) * tiles, cuda.gridDim.x):
            down = quotient(item, tiles)
            gather(on, 0, bounds[0], rows, meters[GATHERED], down * TILE, (item - down * tiles) * TILE)
        turn += 1
        wait(control, turn)
        for s in range(count):
            last = s + 1 == count
            now = Now(
                bounds[s], bounds[s + 1] - bounds[s], normalizers[s], penalties[s], s * per_step, s, one,
                meters[GATHERED + (s & 1)],
                bounds[s + 1], 0 if last else bounds[s + 2] - bounds[s + 1], meters[GATHERED + ((s + 1) & 1)],
            )  # fmt: skip
            for stage in range(stages.shape[0]):
                if stages[stage, CHECKS] != 0:
                    total = total_of(parts, 0, up(now.rows, TILE), own)
                    if leads:
                        losses[s] = total
                    alive = math.isfinite(total)
                    if not alive:
                        break
                if stages[stage, SQUARES] != 0:
                    squares = total_of(sums, sums.size // 2, sums.size // 2, own)
                    clip = T(double(clips[CLIP_NORM]) / (math.sqrt(squares) + 1e-6))
                    now = Now(
                        now.first, now.rows, now.normalizer, now.penalty, now.h, now.s, clip, now.x,
                        now.next_first, now.next_rows, now.next_x,
                    )  # fmt: skip
                work_through(on, own, now, stages[stage, KIND], stages[stage, FIRST_JOB], stages[stage, LAST_JOB])
                turn += 1
                wait(control, turn)
            if not alive:
                break
            if penalties[s] != zero and cuda.blockIdx.x == 0:  # the others change these sums after a barrier
                total = total_of(sums, 0, sums.size // 2, own)
                if leads:
                    shown[s] = double(0.5) * double(penalties[s]) * total
            made += 1
        if leads:
            results[0] = made

    return steps
