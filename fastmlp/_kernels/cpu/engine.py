"""Training run in one native call: the kernel that each thread of a team executes.

A step has two phases (see docs/performance.md). In phase 1, a thread owns some rows of the batch and computes their
forward and backward pass through the whole model. In phase 2, a thread owns some weights, computes their gradient over
the whole batch and updates them at once, one block at a time. Threads synchronize only at the barriers between phases.

With pieces, phase 2 first computes the gradients of some rows of the batch, as a binary tree over pieces of them, and a
function adds them over the ranks of a group; the update follows. See `_piece_gradients` for the order of the sum.

Results do not depend on the number of threads. Rows are independent of each other in phase 1, and so are blocks in
phase 2. Each thread computes every sum over rows or blocks itself, in index order.
"""

from __future__ import annotations

import math

import numpy as np

from ..._common.arithmetic import CLIP_EPSILON
from ..formulas.optimizers import MOST_NUMBERS
from ..op_columns import CLIP_NORM, CLIP_VALUE, NEW_SHARE
from . import blocks
from .arithmetic import ceil_div
from .barrier import ABORT, CONTROLS, wait_for_all
from .calls import call_update
from .declare import FLOAT_ROWS, FLOATS, INT, INT_ROWS, INTS, VECTOR
from .gradients import bias_gradient, weight_gradient
from .jit import carray, inline, kernel
from .native import (
    call_pointer,
    flush_denormals,
    numbers_at,
    pointer,
    restore_float_mode,
)  # fmt: skip
from .operations import pack_rows
from .panels import panel_stride
from .products import Epilogue, even_block, rows_product, transposed_product
from .simd import lanes
from .table import (
    AHEAD,
    AVERAGE,
    BACKWARD,
    BIAS,
    CAPACITY,
    COLUMNS,
    DX,
    DY,
    EPILOGUE,
    FORWARD,
    GRADIENT,
    IN,
    KIND,
    LINEAR,
    NUMBERS,
    OUT,
    OWN,
    PANELS,
    PARAM_COLUMNS,
    PRE,
    REFRESH,
    TRANSPOSED,
    WEIGHT,
    X,
)  # fmt: skip
from .tile import transpose_block

__all__ = [
    "ABORT", "ACCUMULATE", "ALL_PIECES", "BATCH_BLOCK", "BIAS_PANEL", "CONTROLS", "FIRST_OPERATION", "FIRST_PIECE",
    "FLAT", "FLAT_SIZE", "ITEM_COLUMNS", "LOSSES", "MOST_LEVELS", "NEAR", "OWN_GRADIENT", "PIECES", "PIECE_LOSSES",
    "REDUCER", "RUN_PARAMS", "SCRATCH", "SCRATCH_SIZE", "SLOT", "STRIPE", "SUM", "TABLE_BLOCK", "TRAINING", "UPDATE",
    "WEIGHT_BLOCK", "train",
]  # fmt: skip


FETCH_ROWS = 16  # rows of the batch; with fewer rows, the prefetches take as long as the gradient

# Entries of ``run_params``, the integer parameters of a run. The forward pass begins at FIRST_OPERATION: a step whose
# activations are in ``work`` already computes the last operation only. A single thread prefetches no weights if these
# and their state have at most NEAR bytes.
# SCRATCH_SIZE is a multiple of SLOT, the room for the gradient of an item. With PIECES of this rank, of ALL_PIECES from
# FIRST_PIECE on, the gradients of a batch are FLAT_SIZE elements of ``work`` at FLAT. REDUCER is the address of the
# function that adds them over the ranks, or 0. SUM is the distance from there to the sum over the batches of a step, 0
# if steps have one batch. PIECE_LOSSES is the address of float64 numbers: the loss of a batch, and scratch.
UPDATE, LOSSES, SCRATCH, SCRATCH_SIZE, STRIPE, TRAINING, ACCUMULATE, BATCH_BLOCK, FIRST_OPERATION, NEAR = range(10)
SLOT, PIECES, FIRST_PIECE, ALL_PIECES, FLAT, FLAT_SIZE, REDUCER, SUM, PIECE_LOSSES = range(10, 19)
RUN_PARAMS = 19
MOST_LEVELS = 62  # of a tree over pieces

# Kinds of items of phase 2. The columns of an item are the kind, the operation, the first output of the panel and, for
# weights, the first input and the end of the inputs (exclusive). Then come the item's place in sums over all items,
# which does not depend on the order of the items, and the offset of its update's numbers among those of a step. A
# TABLE_BLOCK has the rows of one coded column of a table.
WEIGHT_BLOCK, BIAS_PANEL, OWN_GRADIENT, TABLE_BLOCK = range(4)
ITEM_COLUMNS = 7


@inline
def _call(address, o, ops, numbers, work, weights, first, last, extra):
    """Call a function of operation ``o``, see `operations`."""
    call_pointer(
        address, pointer(work, 0), pointer(weights, 0), pointer(ops, o * COLUMNS), pointer(numbers, o * NUMBERS),
        first, last, extra,
    )  # fmt: skip


@inline
def _epilogue(address, o, ops, numbers, weights):
    return Epilogue(address, pointer(weights, 0), pointer(ops, o * COLUMNS), pointer(numbers, o * NUMBERS), 0)


@inline
def _is_matrix(item):
    """Return whether an item has rows of a matrix of weights."""
    return item[0] == WEIGHT_BLOCK or item[0] == TABLE_BLOCK


@inline
def _refresh(ops, numbers, work, weights):
    """Recompute all that follows from the weights, which the caller may have changed since the last run.

    Each thread writes all of it, and the same numbers, so that none has to wait.
    """
    for o in range(ops.shape[0]):
        if ops[o, REFRESH] != 0:
            for column in range(0, ops[o, OUT], 2 * lanes(work)):
                _call(ops[o, REFRESH], o, ops, numbers, work, weights, 0, ops[o, IN], column)


@inline
def _forward(o, ops, params, numbers, work, weights, r0, r1, s, unit):
    """Compute the forward pass of operation ``o`` for rows r0 .. r1 of the batch."""
    work_p, weights_p = pointer(work, 0), pointer(weights, 0)
    op = ops[o]
    if op[KIND] != LINEAR:
        width = op[OUT] if op[KIND] == PANELS else 1
        for column in range(0, width, 2 * lanes(work)):
            extra = column if op[KIND] == PANELS else s
            _call(op[FORWARD], o, ops, numbers, work, weights, r0, r1, extra)
        return
    bias, begin = 0, 2
    if op[BIAS] >= 0:
        bias, begin = params[op[BIAS], 0], 1
    rows_product(
        work_p, op[X], op[IN], params[op[WEIGHT], 0], begin, bias, op[PRE], op[OUT], weights_p, op[CAPACITY], r0, r1,
        _epilogue(op[FORWARD], o, ops, numbers, weights), unit, op[AHEAD] != 0,
    )  # fmt: skip


@inline
def _backward(o, ops, params, numbers, work, weights, r0, r1, s, unit, scratch):
    """Compute the gradients with respect to operation ``o``'s input from those with respect to its output."""
    work_p, weights_p = pointer(work, 0), pointer(weights, 0)
    op = ops[o]
    if op[KIND] != LINEAR:
        if op[BACKWARD] != 0:
            width = op[OUT] if op[KIND] == PANELS else 1
            for column in range(0, width, 2 * lanes(work)):
                extra = column if op[KIND] == PANELS else s
                _call(op[BACKWARD], o, ops, numbers, work, weights, r0, r1, extra)
        return
    if op[OWN] != 0:
        for column in range(0, op[OUT], 2 * lanes(work)):
            call_pointer(
                op[BACKWARD],
                work_p,
                weights_p,
                pointer(ops, o * COLUMNS),
                pointer(numbers, o * NUMBERS),
                r0,
                r1,
                column,
            )
    if op[DX] < 0:
        return
    below = op[EPILOGUE]
    address = ops[below, BACKWARD] if below >= 0 else 0
    epilogue = _epilogue(address, below, ops, numbers, weights)
    if op[TRANSPOSED] >= 0:
        rows_product(
            work_p, op[DY], op[OUT], op[TRANSPOSED], np.int64(2), np.int64(0), op[DX], op[IN], weights_p,
            op[CAPACITY], r0, r1, epilogue, unit, op[AHEAD] != 0,
        )  # fmt: skip
    else:
        transposed_product(
            work_p, op[DY], op[OUT], params[op[WEIGHT], 0], op[DX], op[IN], weights_p, op[CAPACITY], r0, r1,
            epilogue, unit, scratch,
        )  # fmt: skip


@inline
def _gradient(item, o, ops, params, numbers, r0, r1, work, weights, out, spare, unit, fetches, block):
    """Write an item's gradient over rows r0 .. r1 to work[out]; ``fetches``: prefetch the item's weights meanwhile."""
    op = ops[o]
    if item[0] == WEIGHT_BLOCK:
        none = _epilogue(0, 0, ops, numbers, weights)
        weight_gradient(
            op, item[3], item[4], item[2], r0, r1, params, work, weights, out, spare, none, unit, fetches, block
        )
    elif item[0] == BIAS_PANEL:
        bias_gradient(op, item[2], r0, r1, work, out)
    elif item[0] == TABLE_BLOCK:
        _call(op[GRADIENT], o, ops, numbers, work, weights, out, pack_rows(r0, r1), (item[2] << 32) + item[3])
    else:  # OWN_GRADIENT; item[3] is 0 for the weight and 1 for the bias
        _call(op[GRADIENT], o, ops, numbers, work, weights, out, pack_rows(r0, r1), item[2] * 2 + item[3])


@inline
def _piece_start(run_params, n, piece):
    """Return the first row of one of this rank's pieces of a batch of ``n`` rows; of piece PIECES: the end."""
    return n * (run_params[FIRST_PIECE] + piece) // run_params[ALL_PIECES]


@inline
def _piece_gradients(
    items, first, stop, ops, params, numbers, run_params, n, work, weights, scratch, spare, unit
):  # fmt: skip
    """Write the gradients of some items over this rank's pieces of the batch, added as a binary tree.

    The sum of two pieces is added to that of the next two, and so on. A stack holds one sum of each level: the first in
    the place of the result, the others in ``scratch``.
    """
    room = run_params[SLOT]
    for m in range(first, stop):
        item, o = items[m], items[m, 1]
        row, at = _place(item, ops[o], work)
        out = params[row, PARAM_COLUMNS - 1] + at
        size = (item[4] - item[3]) * panel_stride(work, ops[o, OUT], item[2])
        top = 0
        for piece in range(run_params[PIECES]):
            r0, r1 = _piece_start(run_params, n, piece), _piece_start(run_params, n, piece + 1)
            to = out if top == 0 else scratch + (top - 1) * room
            if r1 > r0:
                block = even_block(r1 - r0, run_params[BATCH_BLOCK], 1)
                _gradient(item, o, ops, params, numbers, r0, r1, work, weights, to, spare, unit, False, block)
            else:
                blocks.zero(work, to, size)
            merges = piece + 1
            while merges % 2 == 0:
                top -= 1
                into = out if top == 0 else scratch + (top - 1) * room
                blocks.add(work, into, scratch + top * room, size)
                merges //= 2
            top += 1


@inline
def _piece_loss(run_params, n, work):
    """Set PIECE_LOSSES[0] to the sum of the losses of this rank's rows: of each piece in turn, then as a tree."""
    sums = carray(numbers_at(run_params[PIECE_LOSSES]), MOST_LEVELS + 2)
    top = 0
    for piece in range(run_params[PIECES]):
        total = 0.0
        for r in range(_piece_start(run_params, n, piece), _piece_start(run_params, n, piece + 1)):
            total += np.float64(work[run_params[LOSSES] + r])
        sums[top] = total
        merges = piece + 1
        while merges % 2 == 0:
            top -= 1
            sums[top] += sums[top + 1]
            merges //= 2
        top += 1


@inline
def _place(item, op, work):
    """Return (row of params, offset in its array) of an item."""
    width = lanes(work)
    if _is_matrix(item):
        rows = ceil_div(op[IN], width) * width
        return op[WEIGHT], item[2] * rows + item[3] * panel_stride(work, op[OUT], item[2])
    return (op[BIAS] if item[0] == BIAS_PANEL or item[3] == 1 else op[WEIGHT]), item[2]


@inline
def _part(weights, start, at, size):
    """Return the elements of one of a parameter's arrays, or none if the array is absent."""
    return carray(pointer(weights, start + at), size if start >= 0 else 0)


@inline
def _update(item, o, ops, numbers, params, hyperparams, h, address, share, work, weights, gradient, size):
    """Apply the gradient at work[gradient] to an item's weights and refresh their transposed copy or running sums."""
    op = ops[o]
    row, at = _place(item, op, work)
    stride = panel_stride(work, op[OUT], item[2])
    filled = min(stride, op[OUT] - item[2])
    call_update(
        address, carray(pointer(work, gradient), size), carray(pointer(hyperparams, h + item[6]), MOST_NUMBERS),
        _part(weights, params[row, 1], at, size), _part(weights, params[row, 2], at, size),
        _part(weights, params[row, 3], at, size), _part(weights, params[row, 0], at, size),
    )  # fmt: skip
    if params[row, AVERAGE] >= 0:
        blocks.average(weights, params[row, 0] + at, params[row, AVERAGE] + at, size, share)
    if filled < stride:  # a formula may compute 0 / 0 in the padding
        for column in range(PARAM_COLUMNS - 1):
            if params[row, column] >= 0:
                blocks.clear(weights, params[row, column] + at, size, filled, stride)
    if op[REFRESH] != 0:
        _call(op[REFRESH], o, ops, numbers, work, weights, item[3], item[4], item[2])
    if item[0] == WEIGHT_BLOCK and op[TRANSPOSED] >= 0:
        width = lanes(work)
        copy_rows = ceil_div(op[OUT], width) * width
        start = params[row, 0] + at
        for i in range(item[3], item[4], 2 * width):
            side = 2 * width if op[IN] - i > width else width
            to = op[TRANSPOSED] + i * copy_rows + item[2] * side
            for a in range(0, side, width):
                for b in range(0, stride, width):
                    transpose_block(
                        weights, start + (i - item[3] + a) * stride + b, stride, weights, to + b * side + a, side
                    )


@kernel(
    INT, INT, INT_ROWS, FLOAT_ROWS, INT_ROWS, INT_ROWS, INTS, INTS, FLOATS, FLOAT_ROWS, INTS, INTS, FLOATS, FLOATS,
    FLOATS, INTS, VECTOR, VECTOR, INT, result=INT,
)  # fmt: skip
def train(
    thread, threads, ops, numbers, params, work_items, splits, run_params, clip_params, hyperparams, bounds, ends,
    losses, penalties, squares, control, work, weights, unit,
):  # fmt: skip
    """Make the steps of a run until a loss is not finite; return the number of steps made.

    - ``ops (K, COLUMNS)``, ``numbers (K, NUMBERS)`` and ``params (P, PARAM_COLUMNS)``: see `table`.
    - ``work_items (M, ITEM_COLUMNS)``: the work work_items of phase 2. This thread owns those from splits[thread] to
      splits[thread + 1].
    - ``bounds``: batch b has bounds[b + 1] - bounds[b] rows.
    - ``ends``: a step ends with batch b if ends[b] is set. The step uses the sum of the gradients of all batches since
      the last step. ACCUMULATE of ``run_params`` must be set if a step may have several batches.
    - ``hyperparams (S, H)``: the optimizer's numbers of each step.
    - ``losses``: losses[b] receives the loss of batch b.
    - ``penalties``: the penalty of step s is penalties[s] / 2 times the sum of the squares of the weights of linear
      layers. Its gradient is added to the step's gradient, and its value overwrites penalties[s].
    - ``squares (2 M)``: scratch.
    - ``unit``: 1.

    With PIECES of ``run_params``, this process computes some rows of each batch, and REDUCER adds gradients and loss
    over all processes, see `_piece_gradients`; the losses are those of whole batches.

    If TRAINING of ``run_params`` is not set, the kernel computes the forward pass only, threads do not synchronize, and
    the result is the number of batches.
    """
    # These views bypass reference counting, which would cost small nets a third of a step, and more under contention
    # of threads for the counters.
    ops = carray(pointer(ops, 0), (ops.shape[0], COLUMNS))
    numbers = carray(pointer(numbers, 0), (numbers.shape[0], NUMBERS))
    params = carray(pointer(params, 0), (params.shape[0], PARAM_COLUMNS))
    work_items = carray(pointer(work_items, 0), (work_items.shape[0], ITEM_COLUMNS))
    hyperparams = carray(pointer(hyperparams, 0), (hyperparams.shape[0], hyperparams.shape[1]))
    splits, run_params = carray(pointer(splits, 0), splits.size), carray(pointer(run_params, 0), run_params.size)
    clip_params, bounds = carray(pointer(clip_params, 0), clip_params.size), carray(pointer(bounds, 0), bounds.size)
    ends = carray(pointer(ends, 0), ends.size)
    losses, penalties = carray(pointer(losses, 0), losses.size), carray(pointer(penalties, 0), penalties.size)
    squares = carray(pointer(squares, 0), squares.size)
    control = carray(pointer(control, 0), control.size)
    work, weights = carray(pointer(work, 0), work.size), carray(pointer(weights, 0), weights.size)
    mode = flush_denormals()
    turn, done = 0, 0
    training = run_params[TRAINING] != 0
    scratch = run_params[SCRATCH] + thread * run_params[SCRATCH_SIZE]
    spare = scratch + run_params[SCRATCH_SIZE] - run_params[SLOT] // 2  # after the gradient of a narrow panel
    norm_clipped, accumulates = clip_params[CLIP_NORM] > 0.0, run_params[ACCUMULATE] != 0
    pieces, apart = run_params[PIECES], run_params[SUM]
    stages, alive, fresh = 2 if norm_clipped else 1, True, True
    _refresh(ops, numbers, work, weights)
    for b in range(bounds.size - 1):
        n = bounds[b + 1] - bounds[b]
        r0, r1 = 0, n
        if pieces > 0:
            first = _piece_start(run_params, n, 0)
            mine = _piece_start(run_params, n, pieces) - first
            r0, r1 = first + mine * thread // threads, first + mine * (thread + 1) // threads
        elif not training:  # no barriers: a thread must use its own rows, even for a short batch
            r0 = min(n, thread * run_params[STRIPE])
            r1 = min(n, r0 + run_params[STRIPE])
        elif threads > 1:
            r0, r1 = n * thread // threads, n * (thread + 1) // threads
        if r1 > r0:
            for o in range(run_params[FIRST_OPERATION], ops.shape[0]):
                _forward(o, ops, params, numbers, work, weights, r0, r1, b, unit)
            if training:
                for back in range(ops.shape[0]):
                    _backward(ops.shape[0] - 1 - back, ops, params, numbers, work, weights, r0, r1, b, unit, scratch)
        if not training:
            done += 1
            continue
        turn += 1
        if not wait_for_all(control, threads, turn):
            break
        total = 0.0
        if pieces == 0:
            for r in range(n):
                total += np.float64(work[run_params[LOSSES] + r])
        else:
            if thread == 0:
                _piece_loss(run_params, n, work)
            _piece_gradients(
                work_items, splits[thread], splits[thread + 1], ops, params, numbers, run_params, n, work, weights,
                scratch, spare, unit,
            )  # fmt: skip
            turn += 1
            if not wait_for_all(control, threads, turn):
                break
            if run_params[REDUCER] != 0:
                if thread == 0:
                    call_pointer(
                        run_params[REDUCER], pointer(work, 0), pointer(weights, 0), pointer(ops, 0),
                        pointer(numbers, 0), run_params[FLAT], run_params[FLAT_SIZE], run_params[PIECE_LOSSES],
                    )  # fmt: skip
                turn += 1
                if not wait_for_all(control, threads, turn):
                    break
            total = carray(numbers_at(run_params[PIECE_LOSSES]), 1)[0]
        if thread == 0:
            losses[b] = total
        if not math.isfinite(total):
            break
        ends_step = ends[b] != 0
        s = done
        h, factor = s * hyperparams.shape[1], 1.0
        block = even_block(n, run_params[BATCH_BLOCK], 1)
        fetches = n >= FETCH_ROWS and (threads > 1 or weights.size * weights.itemsize > run_params[NEAR])
        # Clipping by norm requires all gradients before the first update.
        for stage in range(stages if ends_step else 1):
            for m in range(splits[thread], splits[thread + 1]):
                item, o = work_items[m], work_items[m, 1]
                out, size = scratch, (item[4] - item[3]) * panel_stride(work, ops[o, OUT], item[2])
                if norm_clipped or accumulates or pieces > 0:
                    row, at = _place(item, ops[o], work)
                    out = params[row, PARAM_COLUMNS - 1] + at + apart
                if stage == 0:
                    if pieces == 0:
                        to = out if fresh else scratch
                        _gradient(item, o, ops, params, numbers, 0, n, work, weights, to, spare, unit, fetches, block)
                        if not fresh:
                            blocks.add(work, out, to, size)
                    elif apart != 0 and fresh:
                        blocks.copy(work, out, out - apart, size)
                    elif apart != 0:
                        blocks.add(work, out, out - apart, size)
                    if not ends_step:
                        continue
                    if penalties[s] != 0.0 and _is_matrix(item):
                        row, at = _place(item, ops[o], work)
                        squares[work_items.shape[0] + item[5]] = blocks.penalize(
                            work, out, weights, params[row, 0] + at, size, penalties[s]
                        )
                    if clip_params[CLIP_VALUE] > 0.0:
                        blocks.clip(work, out, size, clip_params[CLIP_VALUE])
                if stage + 1 < stages:
                    squares[item[5]] = blocks.squares(work, out, size)
                    continue
                if not factor >= 1.0:  # also true for NaN, which must propagate to the parameters
                    blocks.scale(work, out, size, factor)
                _update(
                    item, o, ops, numbers, params, hyperparams, h, run_params[UPDATE], clip_params[NEW_SHARE], work,
                    weights, out, size,
                )  # fmt: skip
            turn += 1
            alive = wait_for_all(control, threads, turn)
            if not alive:
                break
            if ends_step and stage + 1 < stages:
                total = 0.0
                for m in range(work_items.shape[0]):
                    total += squares[m]
                factor = clip_params[CLIP_NORM] / (math.sqrt(total) + CLIP_EPSILON)
        if not alive:
            break
        fresh = ends_step
        if not ends_step:
            continue
        if thread == 0 and penalties[s] != 0.0:  # other threads read it in the next phase 2 at the earliest
            total = 0.0
            for m in range(work_items.shape[0]):
                total += squares[work_items.shape[0] + m]
            penalties[s] *= 0.5 * total
        done += 1
    restore_float_mode(mode)
    return done
