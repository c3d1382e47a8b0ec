"""Persistent kernel: a run of training steps in one launch, with a grid barrier between stages.

A step is a list of stages, see `table` and `fastmlp.engine.gpu_plan`. A SPREAD stage distributes the tiles of all jobs
over the blocks. In a CHAIN stage, one block takes a stretch of rows through all jobs without a grid barrier in between.
This is possible because rows of the batch are independent, except in the stages that compute gradients of weights. In
those stages the optimizer's update is part of the epilogue.

The assignment of work to blocks does not affect the results: the tables alone determine the order of every sum.
"""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import numba
import numpy as np

from ..._common.arithmetic import CLIP_EPSILON
from .assembly import matrix, vector
from .augmenting import augmenting
from .block_reduce import block_reduce
from .dispatch import job_item
from .gathering import gathering
from .grid import wait_for_grid
from .jit import alone, device
from .runtime import cuda
from .spec import Spec
from .table import (
    CHECKS,
    CLIP_NORM,
    CLIPS,
    COLUMN_GRADIENT,
    CONTROL,
    COUNTERS,
    DELTA,
    DEVIATIONS,
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
    NORM_GRADIENT,
    NUMBERS,
    OP,
    OP_COLUMNS,
    OP_COUNT,
    OUT,
    PLANE,
    ROW_COUNT,
    RUN_PARAMS,
    SHARES,
    SPLITS,
    SQUARES,
    STAGE_COLUMNS,
    STAGE_COUNT,
    STEPS,
    SUM_COUNT,
    TILES,
    UPDATE,
    WEIGHTS,
    WIDE,
)  # fmt: skip
from .tiles import NARROW, WIDE_TILES, Geometry, Memory, Scratch, StepContext, U, buffers, quotient, up

__all__ = ["BLOCKS_PER_SM", "EACH_ITEM", "steps_kernel"]

_REGISTERS = 1 << 16  # 32-bit registers per multiprocessor
BLOCKS_PER_SM = 2  # blocks per multiprocessor if there is enough work: one computes while the other waits
EACH_ITEM = 4  # elements per thread in an item of an UPDATE job
TABLES = 768  # capacity of the tables in a block's shared memory, in entries: enough for about ten layers


class Launch(NamedTuple):
    """Arrays of a launch that only the top level of the kernel reads or writes."""

    stages: Any
    bounds: Any
    control: Any
    denominators: Any
    penalties: Any
    losses: Any
    shown: Any  # output: L2 penalties of the steps


def room_of(spec, narrow, wide):
    """Return the size, in elements, of each of a block's two buffers in shared memory.

    A buffer holds slices of a matrix, staged results or the partial sums of a bias's gradient.
    """
    geometries = (narrow, wide) if spec.wide else (narrow,)
    slices = max(buffers(np.dtype(spec.dtype), g) * g.tile * g.depth for g in geometries)
    return max(slices, *(g.tile * (g.side + 1) for g in geometries), 1)


@functools.cache
def scratch_of(spec, narrow, wide):
    """Return f() that allocates a block's `Scratch` in shared memory."""
    scalar, room = numba.from_dtype(np.dtype(spec.dtype)), room_of(spec, narrow, wide)
    SIDE, TILE, THREADS = narrow.side, narrow.tile, narrow.threads

    @device
    def scratch():
        return Scratch(
            cuda.shared.array(room, scalar, alignment=16), cuda.shared.array(room, scalar, alignment=16),
            cuda.shared.array((SIDE, SIDE), scalar), cuda.shared.array(TILE, scalar),
            cuda.shared.array(THREADS, numba.float64), cuda.shared.array(1, numba.int64),
        )  # fmt: skip

    return scratch


@device
def size_of_tables(ints):
    return RUN_PARAMS + ints[OP_COUNT] * OP_COLUMNS + ints[JOB_COUNT] * JOB_COLUMNS + ints[STAGE_COUNT] * STAGE_COLUMNS


@functools.cache
def lists_of(header):
    """Return f(near, ..., results) that returns the `Memory` and the `Launch` of a kernel's arguments.

    ``header`` is the number of entries of ``ints`` before the tables, usually LISTS. It is captured, not global,
    because Numba compiles a device function once for its argument types, with the values of globals at that time.
    """

    @device
    def unpack(near, data, labels, targets, row_weights, order, work, weights, ints, reals, results):
        """Return views of the packed lists, see `table`.

        The tables are copied to ``near`` in the block's shared memory if they fit: they are read often, and each grid
        barrier invalidates the L1 cache.
        """
        count, per_step, size = ints[STEPS], ints[HYPER], size_of_tables(ints)
        tables = vector(ints, header, size)
        if size <= TABLES:
            for i in range(cuda.threadIdx.x, size, cuda.blockDim.x):
                near[i] = tables[i]
            tables = vector(near, 0, size)
        cuda.syncthreads()
        run_params = vector(tables, 0, RUN_PARAMS)
        ops = matrix(tables, RUN_PARAMS, ints[OP_COUNT], OP_COLUMNS)
        at = RUN_PARAMS + ints[OP_COUNT] * OP_COLUMNS
        jobs = matrix(tables, at, ints[JOB_COUNT], JOB_COLUMNS)
        at += ints[JOB_COUNT] * JOB_COLUMNS
        stages = matrix(tables, at, ints[STAGE_COUNT], STAGE_COLUMNS)
        at = header + size
        bounds = vector(ints, at, count + 1)
        at += count + 1
        counters = vector(ints, at, ints[COUNTERS])
        at += ints[COUNTERS]
        shifts = vector(ints, at, ints[SHARES])
        if ints[ROW_COUNT] > 0:
            order = vector(ints, at + ints[SHARES], ints[ROW_COUNT])
        clip_params, denominators = vector(reals, 0, CLIPS), vector(reals, CLIPS, count)
        penalties = vector(reals, CLIPS + count, count)
        at = CLIPS + 2 * count
        numbers = matrix(reals, at, ints[OP_COUNT], NUMBERS)
        at += ints[OP_COUNT] * NUMBERS
        hyperparameters = vector(reals, at, count * per_step)
        at += count * per_step
        shares, deviations = vector(reals, at, ints[SHARES]), vector(reals, at + ints[SHARES], ints[DEVIATIONS])
        losses, shown = vector(results, 1, count), vector(results, 1 + count, count)
        at = 1 + 2 * count
        sums = vector(results, at, ints[SUM_COUNT])
        parts = vector(results, at + ints[SUM_COUNT], results.size - at - ints[SUM_COUNT])
        on = Memory(
            data, order, labels, targets, row_weights, hyperparameters, clip_params, ops, numbers, jobs, run_params,
            work, weights, sums, parts, counters, shares, shifts, deviations,
        )  # fmt: skip
        return on, Launch(stages, bounds, vector(ints, CONTROL, 1), denominators, penalties, losses, shown)

    return unpack


@functools.cache
def sum_by_block(threads):
    """Return f(values, first, count, smem) that sums values[first : first + count] in double precision."""
    double, block_sum = np.float64, block_reduce(threads)

    @device
    def total_of(values, first, count, smem):
        """Sum values[first : first + count]; the result is bitwise equal in all blocks."""
        total = double(0)
        for i in range(cuda.threadIdx.x, count, threads):
            total += values[first + i]
        return block_sum(total, smem.doubles)

    return total_of


@functools.cache
def stage_of(spec, narrow, wide, each_item):
    """Return f(on, smem, now, chained, first_job, last_job) that executes a block's share of a stage."""
    TILE, WIDE_TILE = narrow.tile, wide.tile if spec.wide else narrow.tile
    ITEM, do = narrow.threads * each_item, job_item(spec, narrow, wide, each_item)

    @device
    def items_of(on, now, j, kind):
        """Return the number of work items of a job in a SPREAD stage, for a product per split."""
        o, tiles = U(on.jobs[j, OP]), on.jobs[j, TILES]
        if kind == UPDATE:
            return up(on.run_params[PLANE], ITEM)
        if kind == NORM_GRADIENT or kind == COLUMN_GRADIENT:
            return tiles
        if kind == GATHER:
            return up(now.next_rows, TILE) * tiles
        height = on.ops[o, OUT] if kind == WEIGHTS else now.rows
        return (up(height, WIDE_TILE) if on.jobs[j, WIDE] != 0 else up(height, TILE)) * tiles

    @device
    def work_through(on, smem, now, chained, first_job, last_job):
        """Execute this block's share of a stage; ``chained`` is 1 for a CHAIN stage and 0 for a SPREAD stage.

        ``chained`` enters as a factor instead of a condition, because the compiler would duplicate the loops for a
        loop-invariant condition.
        """
        blocks, spread = cuda.gridDim.x, 1 - chained
        for stretch in range(
            cuda.blockIdx.x * chained, up(now.rows, TILE) * chained + spread, blocks * chained + spread
        ):
            for number in range(first_job, last_job):
                # A SPREAD stage assigns the items of all jobs to the blocks round-robin.
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
                    do(on, smem, now, j, stretch * TILE + down * span, (at - down * tiles) * span, split, at, item)
                cuda.syncthreads()

    return work_through


@functools.cache
def gather_first(spec, narrow):
    """Return f(on, bounds) that gathers the first batch; each step gathers the batch of the next step."""
    TILE, gather = narrow.tile, (augmenting if spec.augments else gathering)(np.dtype(spec.dtype), narrow)

    @device
    def run(on, bounds):
        rows, tiles = bounds[1] - bounds[0], up(on.ops[0, IN], TILE)
        for item in range(cuda.blockIdx.x, up(rows, TILE) * tiles, cuda.gridDim.x):
            down = quotient(item, tiles)
            gather(on, 0, bounds[0], rows, on.run_params[GATHERED], down * TILE, (item - down * tiles) * TILE)

    return run


@device
def begin_step(on, lists, s, per_step, one):
    """Return the `StepContext` of step ``s`` with gradient factor ``one``."""
    bounds, last = lists.bounds, s + 1 == lists.denominators.size
    return StepContext(
        bounds[s], bounds[s + 1] - bounds[s], lists.denominators[s], lists.penalties[s], s * per_step, s, one,
        on.run_params[GATHERED + (s & 1)],
        bounds[s + 1], 0 if last else bounds[s + 2] - bounds[s + 1], on.run_params[GATHERED + ((s + 1) & 1)],
    )  # fmt: skip


@device
def clipped(now, clip):
    """Return a copy of a `StepContext` with gradient factor ``clip``."""
    return StepContext(
        now.first, now.rows, now.normalizer, now.penalty, now.h, now.s, clip, now.x,
        now.next_first, now.next_rows, now.next_x,
    )  # fmt: skip


@functools.cache
def steps_kernel(
    spec: Spec,
    narrow: Geometry = NARROW,
    wide: Geometry = WIDE_TILES,
    wait: Any = wait_for_grid,
    each_item: int = EACH_ITEM,
    header: int = LISTS,
) -> Any:
    """Return the persistent kernel for ``spec``; simulators and measurements override the other arguments.

    The kernel's parameters are (data, labels, targets, row_weights, order, work, weights, ints, reals, results):

    - ``data (N, I)``: the features.
    - ``labels (N,)`` or ``targets (N, O)``, and ``row_weights (N,)``; arrays of size 0 are unused.
    - ``order``: the row numbers of the batches, unless ``ints`` contains them.
    - ``work`` and ``weights``: laid out by the plan.
    - ``ints``, ``reals``, ``results``: packed lists, see `table`.

    Batch s consists of the rows order[bounds[s] : bounds[s + 1]]. penalties[s] is l2 divided by the number of these
    rows or by the sum of their weights. If a loss is not finite, it is stored and the run ends without that step. Among
    the results, ``parts`` holds the losses of stretches of rows. ``sums`` holds the sums of squares of weights and of
    gradients, and is empty if they are not needed.
    """
    T, double = np.dtype(spec.dtype).type, np.float64
    zero, one, TILE, THREADS = T(0), T(1), narrow.tile, narrow.threads
    unpack, scratch, total_of = lists_of(header), scratch_of(spec, narrow, wide), sum_by_block(THREADS)
    first_rows, work_through = gather_first(spec, narrow), stage_of(spec, narrow, wide, each_item)

    @alone(None if spec.blocks_per_sm == 1 else _REGISTERS // (spec.blocks_per_sm * THREADS))
    def steps(data, labels, targets, row_weights, order, work, weights, ints, reals, results):
        near = cuda.shared.array(TABLES, numba.int64)
        on, lists = unpack(near, data, labels, targets, row_weights, order, work, weights, ints, reals, results)
        smem, stages, sums = scratch(), lists.stages, on.sums
        leads = cuda.blockIdx.x == 0 and cuda.threadIdx.x == 0
        turn, made, alive = 0, 0, True
        first_rows(on, lists.bounds)
        turn += 1
        wait(lists.control, turn)
        for s in range(ints[STEPS]):
            now = begin_step(on, lists, s, ints[HYPER], one)
            for stage in range(stages.shape[0]):
                if stages[stage, CHECKS] != 0:
                    total = total_of(on.parts, 0, up(now.rows, TILE), smem)
                    if leads:
                        lists.losses[s] = total
                    alive = math.isfinite(total)
                    if not alive:
                        break
                if stages[stage, SQUARES] != 0:
                    squares = total_of(sums, sums.size // 2, sums.size // 2, smem)
                    now = clipped(now, T(double(on.clip_params[CLIP_NORM]) / (math.sqrt(squares) + CLIP_EPSILON)))
                work_through(on, smem, now, stages[stage, KIND], stages[stage, FIRST_JOB], stages[stage, LAST_JOB])
                turn += 1
                wait(lists.control, turn)
            if not alive:
                break
            if now.penalty != zero and cuda.blockIdx.x == 0:  # other blocks overwrite sums after a barrier
                total = total_of(sums, 0, sums.size // 2, smem)
                if leads:
                    lists.shown[s] = double(0.5) * double(now.penalty) * total
            made += 1
        if leads:
            results[0] = made

    return steps
