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
from typing import Any, NamedTuple

import numba
import numpy as np

from . import jobs as job
from .assembly import part
from .grid import wait_for_grid
from .halving import halving
from .jit import alone, device
from .jobs import ends_of
from .runtime import SIMULATED, cuda
from .table import (
    ACTIVATE,
    ACTIVATE_BACK,
    AVERAGE_PLANE,
    BELOW,
    BIAS,
    CHAIN,
    CHECKS,
    CHUNK,
    CLIP_NORM,
    CLIP_VALUE,
    CLIPS,
    CONTROL,
    DELTA,
    DROP,
    DROP_BACK,
    FINISH,
    FIRST_JOB,
    FIRST_STEP,
    FORWARD,
    GRADIENTS,
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
    NEW_SHARE,
    NORM,
    NORM_BACK,
    NORM_GRADIENT,
    NUMBERS,
    OF,
    OP,
    OP_COLUMNS,
    OP_COUNT,
    OUT,
    PARTS,
    PLANE,
    ROW_COUNT,
    RSTDS,
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
from .tensor import held
from .tiles import NARROW, WIDE_TILES, Geometry, Memory, Now, Scratch, U, features, inputs_of, multiply, room

__all__ = ["EACH_ITEM", "Spec", "steps_kernel"]

if not SIMULATED:
    vector, matrix = part(1), part(2)

EACH_ITEM = 4  # elements of a thread in an item of a FINISH or an UPDATE


class Spec(NamedTuple):
    """What a kernel is compiled for.

    ``loss`` is the name of an elementwise loss, or None for cross-entropy, of logits or not, of indices or not;
    ``kinds`` are the activations; ``rule`` the optimizer's formula; ``jobs`` those that not every net has, by their
    kinds; ``wide`` whether any tile is; ``precision`` that of the products.
    """

    dtype: str
    loss: str | None
    from_logits: bool
    by_index: bool
    kinds: tuple[str, ...]
    rule: str
    jobs: tuple[int, ...]
    wide: bool
    precision: str


class Settings(NamedTuple):
    """What an update needs beside a gradient."""

    plane: Any
    average: Any
    gradients: Any
    bound: Any
    keeps: Any
    share: Any
    penalty: Any
    numbers: Any


@functools.cache
def steps_kernel(
    spec: Spec,
    narrow: Geometry = NARROW,
    wide: Geometry = WIDE_TILES,
    wait: Any = wait_for_grid,
    each_item: int = EACH_ITEM,
) -> Any:
    """The kernel for ``spec``; the other arguments are for machines that are simulated.

    kernel(data, labels, targets, row_weights, work, weights, ints, reals, results): ``data (N, I)`` the features;
    ``labels (N,)`` or ``targets (N, O)``, ``row_weights (N,)`` or none; ``work`` and ``weights`` as the plan has laid
    them out; the others are lists of lists, see `table`. Batch s are the rows order[bounds[s]] .. bounds[s + 1];
    penalties[s] is l2 over its rows or their weights. Of losses that are not finite one is written, and no step made
    with it. ``parts`` are the losses of stretches of rows, ``sums`` those of squares of weights and of gradients, or
    empty where nobody needs them.
    """
    dtype, kinds = np.dtype(spec.dtype), spec.kinds
    T, scalar = dtype.type, numba.from_dtype(dtype)
    zero, one, double = T(0), T(1), np.float64
    SIDE, THREADS, TILE = narrow.side, narrow.threads, narrow.tile
    WIDE_TILE = wide.tile if spec.wide else TILE
    ROOM, WIDE_ROOM = room(spec.precision, narrow)[0], room(spec.precision, wide)[0] if spec.wide else 1
    ITEM = THREADS * each_item
    x_of, write, activate = features(dtype), job.through(kinds, dtype), job.activation(kinds, dtype)
    (numbers_of, update), fold = job.rule(spec.rule), halving(THREADS)
    if spec.loss is None:
        compute_loss = job.entropy(dtype, narrow, kinds, spec.from_logits, spec.by_index)
    else:
        compute_loss = job.elementwise_loss(dtype, narrow, kinds, spec.loss)

    @device
    def absent(on, own, now, o, row):
        """In the place of a job of rows that the net has not, which would have to be compiled."""

    norm, norm_back = (job.layer_norm(dtype, narrow, kinds, backward) for backward in (False, True))
    soft, soft_back = (job.softmax(dtype, narrow, kinds, backward) for backward in (False, True))
    drop, drop_back = (job.dropping(dtype, narrow, kinds, backward) for backward in (False, True))
    norm, norm_back = norm if NORM in spec.jobs else absent, norm_back if NORM_BACK in spec.jobs else absent
    soft, soft_back = soft if SOFTMAX in spec.jobs else absent, soft_back if SOFTMAX_BACK in spec.jobs else absent
    drop, drop_back = drop if DROP in spec.jobs else absent, drop_back if DROP_BACK in spec.jobs else absent

    @device
    def up(a, b):
        return (a + b - 1) // b

    # --------------------------------------------------------------- what becomes of a complete sum

    @device
    def settings_of(on, now):
        """What an update needs, read once for many elements."""
        return Settings(
            on.meters[PLANE], on.meters[AVERAGE_PLANE], on.meters[GRADIENTS], on.clips[CLIP_VALUE],
            on.clips[CLIP_NORM] > zero, on.clips[NEW_SHARE], now.penalty, numbers_of(on, now.h),
        )  # fmt: skip

    @device
    def apply(on, to, p, g):
        """The optimizer's formula, and the average after it."""
        update(on, p, to.plane, to.numbers, g)
        if to.share > zero:
            a = p + to.average
            on.weights[a] += to.share * (on.weights[p] - on.weights[a])

    @device
    def settle(on, to, p, g, penalized):
        """The gradient g of weights[p], complete: applied, or kept where the norm is clipped; (squares of w and g)."""
        w_square, g_square = zero, zero
        if penalized:
            w = on.weights[p]
            g = g + to.penalty * w
            w_square = w * w
        if to.bound > zero:
            g = to.bound if g > to.bound else -to.bound if g < -to.bound else g  # NaN stays
        if to.keeps:
            on.work[to.gradients + p] = g
            g_square = g * g
        else:
            apply(on, to, p, g)
        return w_square, g_square

    @device
    def note(on, own, number, w_square, g_square):
        """The block's sums of squares, in the order of its threads."""
        if on.sums.size > 0:
            w, g = fold(double(w_square), own.doubles), fold(double(g_square), own.doubles)
            if cuda.threadIdx.x == 0:
                on.sums[number], on.sums[on.sums.size // 2 + number] = w, g

    @device
    def size_of(on, o, of, rows):
        """Elements of a product, the bias's gradient among those of WEIGHTS."""
        if of == WEIGHTS:
            return on.ops[o, OUT] * (on.ops[o, IN] + (1 if on.ops[o, BIAS] >= 0 else 0))
        return rows * (on.ops[o, OUT] if of == FORWARD else on.ops[o, IN])

    # ------------------------------------------------------------------------- jobs that are products

    def product(kind, is_wide=False):
        geometry = wide if is_wide else narrow
        EACH, DEPTH, SPAN, ROWS = geometry.each, geometry.depth, geometry.tile, geometry.group * geometry.each
        fill = multiply(kind, dtype, geometry, is_wide, spec.precision)
        place, down, along = held(spec.precision, geometry)
        _, PITCH = room(spec.precision, geometry)

        @device
        def run(on, own, now, j, row, column, split, number):
            sums, ones = cuda.local.array((EACH, EACH), scalar), cuda.local.array(EACH, scalar)
            o, splits, parts = on.jobs[j, OP], on.jobs[j, SPLITS], on.jobs[j, PARTS]
            ty, tx = cuda.threadIdx.x // SIDE, cuda.threadIdx.x % SIDE
            if kind == WEIGHTS:
                inner, height, width = now.rows, on.ops[o, OUT], on.ops[o, IN]
                chunk = up(up(inner, splits), DEPTH) * DEPTH
            else:
                inner = on.ops[o, IN] if kind == FORWARD else on.ops[o, OUT]
                height, width = now.rows, on.ops[o, OUT] if kind == FORWARD else on.ops[o, IN]
                chunk = on.jobs[j, CHUNK] if splits > 1 else inner
            fill(sums, ones, on, own, now, o, row, column, split * chunk, min((split + 1) * chunk, inner))
            parts += split * size_of(on, o, kind, now.rows)
            weight, bias, to = on.ops[o, WEIGHT], on.ops[o, BIAS], settings_of(on, now)
            ends = ends_of(on, o if kind == FORWARD else max(on.ops[o, BELOW], 0))
            w_square, g_square = zero, zero
            # By way of shared memory, some rows at a time: neighbours then write to neighbouring addresses, and what
            # follows a sum is compiled once, not for each of a thread's.
            stage = own.wide_left if is_wide else own.left
            first, beside = place(cuda.threadIdx.x)
            for below in range(0, SPAN, ROWS):
                cuda.syncthreads()
                for i in range(EACH):
                    r = first + down(i) - below
                    if r >= 0 and r < ROWS:
                        for b in range(EACH):
                            stage[U(r * PITCH + beside) + U(along(b))] = sums[i, b]
                cuda.syncthreads()
                for e in range(cuda.threadIdx.x, ROWS * SPAN, THREADS):
                    m, n = row + below + e // SPAN, column + e % SPAN
                    if m < height and n < width:
                        i, v = m * width + n, stage[e // SPAN * PITCH + e % SPAN]
                        if splits > 1:
                            on.work[parts + i] = v
                        elif kind == WEIGHTS:
                            w, g = settle(on, to, weight + i, v, to.penalty != zero)
                            w_square += w
                            g_square += g
                        elif kind == FORWARD:
                            activate(on, ends, i, v + on.weights[bias + n] if bias >= 0 else v)
                        else:
                            write(on, ends, i, v)
            if kind == WEIGHTS:
                if column == 0 and bias >= 0:
                    for i in range(EACH):
                        cuda.syncthreads()
                        own.square[ty, tx] = ones[i]
                        cuda.syncthreads()
                        m, v = row + cuda.threadIdx.x * EACH + i, zero
                        if cuda.threadIdx.x < SIDE and m < height:
                            for t in range(SIDE):
                                v += own.square[cuda.threadIdx.x, t]
                            if splits > 1:
                                on.work[parts + height * width + m] = v
                            else:
                                _, g = settle(on, to, bias + m, v, False)
                                g_square += g
                    cuda.syncthreads()
                if splits == 1:
                    note(on, own, number, w_square, g_square)

        return run

    forward, delta, gradient = (product(kind) for kind in (FORWARD, DELTA, WEIGHTS))
    wide_forward, wide_delta, wide_gradient = forward, delta, gradient
    if spec.wide:
        wide_forward, wide_delta, wide_gradient = (product(kind, True) for kind in (FORWARD, DELTA, WEIGHTS))

    @device
    def finish(on, own, now, j, item):
        """Add up the parts of some elements of a product."""
        o, of, splits, parts = on.jobs[j, OP], on.jobs[j, OF], on.jobs[j, SPLITS], on.jobs[j, PARTS]
        width = on.ops[o, OUT] if of == FORWARD else on.ops[o, IN]
        size, of_weights = size_of(on, o, of, now.rows), on.ops[o, OUT] * width
        weight, bias, to = on.ops[o, WEIGHT], on.ops[o, BIAS], settings_of(on, now)
        ends = ends_of(on, o if of == FORWARD else max(on.ops[o, BELOW], 0))
        w_square, g_square = zero, zero
        for t in range(each_item):
            i = item * ITEM + t * THREADS + cuda.threadIdx.x
            if i < size:
                v = zero
                for split in range(splits):
                    v += on.work[parts + split * size + i]
                if of == WEIGHTS:
                    inside = i < of_weights
                    p = weight + i if inside else bias + i - of_weights
                    w, g = settle(on, to, p, v, inside and to.penalty != zero)
                    w_square += w
                    g_square += g
                elif of == FORWARD:
                    activate(on, ends, i, v + on.weights[bias + i % width] if bias >= 0 else v)
                else:
                    write(on, ends, i, v)
        if of == WEIGHTS:
            note(on, own, on.jobs[j, SUMS] + item, w_square, g_square)

    # ------------------------------------------------------------------------------------- other jobs

    @device
    def loss(on, own, now, o, row):
        """The losses of a stretch of rows, with their gradient; and their sum."""
        compute_loss(on, own, now, o, row)
        cuda.syncthreads()
        if cuda.threadIdx.x == 0:
            total = double(0)
            for r in range(min(TILE, now.rows - row)):
                total += own.losses[r]
            on.parts[row // TILE] = total
        cuda.syncthreads()

    @device
    def element(on, own, now, o, row, backward):
        """An activation by itself, of a stretch of rows."""
        inputs, own_ends, ends = inputs_of(on, o), ends_of(on, o), ends_of(on, max(on.ops[o, BELOW], 0))
        width = inputs.width
        for i in range(row * width + cuda.threadIdx.x, min(now.rows, row + TILE) * width, THREADS):
            if backward:
                write(on, ends, i, on.work[own_ends.g + i])
            else:
                activate(on, own_ends, i, x_of(on, now.first, inputs, i // width, i % width))

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
        o = on.jobs[j, OP]
        ty, tx = cuda.threadIdx.x // SIDE, cuda.threadIdx.x % SIDE
        inputs, ends, to, means, rstds = (
            inputs_of(on, o), ends_of(on, o), settings_of(on, now), on.ops[o, MEANS], on.ops[o, RSTDS],
        )  # fmt: skip
        column, width, weight, bias = item * SIDE + tx, on.ops[o, IN], on.ops[o, WEIGHT], on.ops[o, BIAS]
        w, b, squares = zero, zero, zero
        if column < width:
            for r in range(ty, now.rows, SIDE):
                g = on.work[ends.g + r * width + column]
                z = (x_of(on, now.first, inputs, r, column) - on.work[means + r]) * on.work[rstds + r]
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

    @device
    def apply_all(on, own, now, j, item):
        """Some of the gradients that were kept, clipped."""
        to = settings_of(on, now)
        for t in range(each_item):
            p = item * ITEM + t * THREADS + cuda.threadIdx.x
            if p < to.plane:
                g = on.work[to.gradients + p]
                if not now.clip >= one:  # a norm that is NaN must reach the parameters, not vanish
                    g = g * now.clip
                apply(on, to, p, g)

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
    def items_of(on, j, rows):
        """How many items a job has in a SPREAD stage."""
        kind, o, tiles = on.jobs[j, KIND], on.jobs[j, OP], on.jobs[j, TILES]
        if kind == UPDATE:
            return up(on.meters[PLANE], ITEM)
        if kind == NORM_GRADIENT:
            return tiles
        if kind == FINISH:
            return up(size_of(on, o, on.jobs[j, OF], rows), ITEM)
        span = WIDE_TILE if on.jobs[j, WIDE] != 0 else TILE
        return up(on.ops[o, OUT] if kind == WEIGHTS else rows, span) * tiles * on.jobs[j, SPLITS]

    @device
    def do(on, own, now, j, row, column, split, item):
        """One item of a job."""
        kind, o, is_wide = on.jobs[j, KIND], on.jobs[j, OP], on.jobs[j, WIDE] != 0
        if kind == FORWARD and is_wide:
            wide_forward(on, own, now, j, row, column, split, 0)
        elif kind == FORWARD:
            forward(on, own, now, j, row, column, split, 0)
        elif kind == DELTA and is_wide:
            wide_delta(on, own, now, j, row, column, split, 0)
        elif kind == DELTA:
            delta(on, own, now, j, row, column, split, 0)
        elif kind == WEIGHTS and is_wide:
            wide_gradient(on, own, now, j, row, column, split, on.jobs[j, SUMS] + item)
        elif kind == WEIGHTS:
            gradient(on, own, now, j, row, column, split, on.jobs[j, SUMS] + item)
        elif kind == FINISH:
            finish(on, own, now, j, item)
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
        elif kind == NORM_GRADIENT:
            norm_gradient(on, own, now, j, item)
        elif kind == UPDATE:
            apply_all(on, own, now, j, item)

    # ----------------------------------------------------------------------------------------- stages

    @device
    def work_through(on, own, now, chained, first_job, last_job):
        """This block's share of a stage."""
        blocks = cuda.gridDim.x
        for stretch in range(
            cuda.blockIdx.x if chained else 0, up(now.rows, TILE) if chained else 1, blocks if chained else 1
        ):
            before = 0
            for j in range(first_job, last_job):
                tiles, splits = on.jobs[j, TILES], on.jobs[j, SPLITS]
                items, start, stride = tiles, 0, 1
                if not chained:  # the items of all jobs are dealt out to the blocks in turn
                    items, stride = items_of(on, j, now.rows), blocks
                    start = (cuda.blockIdx.x + blocks - before % blocks) % blocks
                    before += items
                span = WIDE_TILE if on.jobs[j, WIDE] != 0 else TILE
                of_split = max(1, items // splits)
                for item in range(start, items, stride):
                    at = item % of_split
                    row = stretch * TILE if chained else at // tiles * span
                    do(on, own, now, j, row, at % tiles * span, item // of_split, item)
                if chained:
                    cuda.syncthreads()

    @alone
    def steps(data, labels, targets, row_weights, work, weights, ints, reals, results):
        count, per_step = ints[STEPS], ints[HYPER]
        at = LISTS
        meters = vector(ints, at, METERS)
        at += METERS
        bounds = vector(ints, at, count + 1)
        at += count + 1
        ops = matrix(ints, at, ints[OP_COUNT], OP_COLUMNS)
        at += ints[OP_COUNT] * OP_COLUMNS
        jobs = matrix(ints, at, ints[JOB_COUNT], JOB_COLUMNS)
        at += ints[JOB_COUNT] * JOB_COLUMNS
        stages = matrix(ints, at, ints[STAGE_COUNT], STAGE_COLUMNS)
        at += ints[STAGE_COUNT] * STAGE_COLUMNS
        order, control = vector(ints, at, ints[ROW_COUNT]), vector(ints, CONTROL, 1)
        clips, normalizers = vector(reals, 0, CLIPS), vector(reals, CLIPS, count)
        penalties = vector(reals, CLIPS + count, count)
        at = CLIPS + 2 * count
        numbers = matrix(reals, at, ints[OP_COUNT], NUMBERS)
        hyper = vector(reals, at + ints[OP_COUNT] * NUMBERS, count * per_step)
        losses, shown = vector(results, 1, count), vector(results, 1 + count, count)
        at = 1 + 2 * count
        sums = vector(results, at, ints[SUM_COUNT])
        parts = vector(results, at + ints[SUM_COUNT], results.size - at - ints[SUM_COUNT])
        left, right = cuda.shared.array(ROOM, scalar, alignment=16), cuda.shared.array(ROOM, scalar, alignment=16)
        wide_left = cuda.shared.array(WIDE_ROOM, scalar, alignment=16)
        wide_right = cuda.shared.array(WIDE_ROOM, scalar, alignment=16)
        square = cuda.shared.array((SIDE, SIDE), scalar)
        of_rows = cuda.shared.array(TILE, scalar)
        doubles = cuda.shared.array(THREADS, numba.float64)
        own = Scratch(left, right, wide_left, wide_right, square, of_rows, doubles)
        on = Memory(
            data, order, labels, targets, row_weights, hyper, clips, ops, numbers, jobs, meters, work, weights, sums,
            parts,
        )  # fmt: skip
        leads = cuda.blockIdx.x == 0 and cuda.threadIdx.x == 0
        turn, made, alive = 0, 0, True
        for s in range(count):
            clip = one
            for stage in range(stages.shape[0]):
                now = Now(
                    bounds[s], bounds[s + 1] - bounds[s], normalizers[s], penalties[s], s * per_step,
                    np.uint64((meters[FIRST_STEP] + s) & 0xFFFFFFFF), clip,
                )  # fmt: skip
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
                    now = Now(now.first, now.rows, now.normalizer, now.penalty, now.h, now.count, clip)
                chained = stages[stage, KIND] == CHAIN
                work_through(on, own, now, chained, stages[stage, FIRST_JOB], stages[stage, LAST_JOB])
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
