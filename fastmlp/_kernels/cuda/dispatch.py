"""Dispatch of a work item to the device function of its job, and the jobs other than products."""

from __future__ import annotations

import functools

import numba
import numpy as np

from ..formulas import sums_over_classes
from . import columns, results
from . import jobs as job
from .augmenting import augmenting
from .block_reduce import block_reduce
from .epilogue import activation, epilogue_of, through
from .gathering import gathering
from .jit import device
from .linear import product
from .runtime import cuda
from .table import (
    ACTIVATE,
    ACTIVATE_BACK,
    BELOW,
    BIAS,
    BY_COLUMN,
    BY_COLUMN_BACK,
    COLUMN_GRADIENT,
    DELTA,
    DROP,
    DROP_BACK,
    FORWARD,
    GATHER,
    IN,
    KIND,
    LOSS,
    MEANS,
    NORM,
    NORM_BACK,
    NORM_GRADIENT,
    NORMALIZE,
    NORMALIZE_BACK,
    OP,
    RSTDS,
    SOFTMAX,
    SOFTMAX_BACK,
    SUMS,
    UPDATE,
    WEIGHT,
    WEIGHTS,
    WIDE,
)  # fmt: skip
from .tiles import U, features, inputs_of

__all__ = ["job_item"]


@device
def absent(on, smem, now, o, row):
    """Placeholder for a job that the network does not contain; avoids compiling the real one."""


@device
def no_product(on, smem, now, j, row, column, split, number):
    """Placeholder for products with wide tiles, as `absent`."""


def jobs_of_rows(spec, geometry):
    """Return a dict from kind to the job f(on, smem, now, o, row) of a stretch of rows."""
    dtype, kinds = np.dtype(spec.dtype), spec.kinds
    factories = {
        NORM: (job.layer_norm, False), NORM_BACK: (job.layer_norm, True),
        SOFTMAX: (job.softmax, False), SOFTMAX_BACK: (job.softmax, True),
        DROP: (job.dropping, False), DROP_BACK: (job.dropping, True),
        NORMALIZE: (job.normalizing, False), NORMALIZE_BACK: (job.normalizing, True),
    }  # fmt: skip
    found = {
        kind: make(dtype, geometry, kinds, backward) if kind in spec.jobs else absent
        for kind, (make, backward) in factories.items()
    }
    element = element_job(spec, geometry)
    for kind, function in zip((ACTIVATE, ACTIVATE_BACK), element, strict=True):
        found[kind] = function if kind in spec.jobs else absent
    for kind, backward in ((BY_COLUMN, False), (BY_COLUMN_BACK, True)):
        found[kind] = absent
        if BY_COLUMN in spec.jobs:
            found[kind] = columns.by_column(dtype, geometry, kinds, spec.columns, backward)
    return {**found, LOSS: loss_job(spec, geometry)}


def loss_job(spec, geometry):
    """Return the job that computes the losses of a stretch of rows, their gradient and their sum."""
    dtype, kinds, double = np.dtype(spec.dtype), spec.kinds, np.float64
    TILE, block_sum = geometry.tile, block_reduce(geometry.threads)
    if sums_over_classes(spec.loss):
        compute_loss = job.classwise_loss(
            dtype, geometry, kinds, spec.loss, spec.from_logits, spec.by_index, spec.augments
        )
    else:
        compute_loss = job.elementwise_loss(dtype, geometry, kinds, spec.loss, spec.augments)

    @device
    def loss(on, smem, now, o, row):
        """Compute the losses of a stretch of rows, their gradient and their sum."""
        compute_loss(on, smem, now, o, row)
        cuda.syncthreads()
        r, total = cuda.threadIdx.x, double(0)
        if r < min(TILE, now.rows - row):
            total = double(smem.losses[r])
        total = block_sum(total, smem.doubles)
        if r == 0:
            on.parts[row // TILE] = total

    return loss


def element_job(spec, geometry):
    """Return the jobs (forward, backward) of an activation that no product's epilogue applies."""
    dtype, TILE, THREADS = np.dtype(spec.dtype), geometry.tile, geometry.threads
    activate, write_one = activation(spec.kinds, dtype), through(spec.kinds, dtype)

    @device
    def element(on, smem, now, o, row, backward):
        """Apply an activation, or its gradient, to a stretch of rows."""
        inputs, own_epilogue = inputs_of(on, now, o), epilogue_of(on, o)
        epilogue = epilogue_of(on, U(max(on.ops[o, BELOW], 0)))
        width = inputs.width
        for i in range(row * width + cuda.threadIdx.x, min(now.rows, row + TILE) * width, THREADS):
            if backward:
                write_one(on, epilogue, i, on.work[own_epilogue.g + i])
            else:
                activate(on, own_epilogue, i, features(on, inputs, i // width, i % width))

    @device
    def activated(on, smem, now, o, row):
        element(on, smem, now, o, row, False)

    @device
    def activated_back(on, smem, now, o, row):
        element(on, smem, now, o, row, True)

    return activated, activated_back


def column_gradient_job(spec, geometry):
    """Return the job for the gradients of the parameters of functions by column, SIDE columns at a time."""
    dtype = np.dtype(spec.dtype)
    apply_update = results.update_epilogue_one(spec.rule, dtype)
    add_squares = results.accumulate_squares(geometry.threads)
    settings_of = results.settings(spec.rule, dtype)
    return columns.column_gradient(dtype, geometry, spec.columns, apply_update, add_squares, settings_of)


def norm_gradient_job(spec, geometry):
    """Return the job for the gradients of a layer norm's weight and bias, SIDE columns at a time."""
    dtype, SIDE = np.dtype(spec.dtype), geometry.side
    zero = dtype.type(0)
    add_squares = results.accumulate_squares(geometry.threads)
    apply_update = results.update_epilogue_one(spec.rule, dtype)
    settings_of = results.settings(spec.rule, dtype)

    @device
    def norm_gradient(on, smem, now, j, item):
        """Compute the gradients of SIDE columns of a layer norm's weight and bias; rows of a thread are SIDE apart."""
        o = U(on.jobs[j, OP])
        ty, tx = cuda.threadIdx.x // SIDE, cuda.threadIdx.x % SIDE
        inputs, epilogue, to, means, rstds = (
            inputs_of(on, now, o), epilogue_of(on, o), settings_of(on, now), on.ops[o, MEANS], on.ops[o, RSTDS],
        )  # fmt: skip
        column, width, weight, bias = item * SIDE + tx, on.ops[o, IN], on.ops[o, WEIGHT], on.ops[o, BIAS]
        w, b, squares = zero, zero, zero
        if column < width:
            for r in range(ty, now.rows, SIDE):
                g = on.work[epilogue.g + r * width + column]
                z = (features(on, inputs, r, column) - on.work[means + r]) * on.work[rstds + r]
                w += g * z
                b += g
        for which in range(2):
            smem.square[tx, ty] = w if which == 0 else b
            cuda.syncthreads()
            if ty == 0 and column < width:
                total = zero
                for i in range(SIDE):
                    total += smem.square[tx, i]
                _, g = apply_update(on, to, (weight if which == 0 else bias) + column, total, False)
                squares += g
            cuda.syncthreads()
        add_squares(on, smem, on.jobs[j, SUMS] + item, zero, squares)

    return norm_gradient


def update_job(spec, geometry, each_item):
    """Return the job for the optimizer's step on all parameters after the norm of the gradients is known."""
    dtype, THREADS = np.dtype(spec.dtype), geometry.threads
    zero, one, scalar, ITEM = dtype.type(0), dtype.type(1), numba.from_dtype(dtype), THREADS * each_item
    settings_of = results.settings(spec.rule, dtype)
    _, apply_some = results.update_epilogue(spec.rule, dtype, each_item)
    read_gradients, _ = results.groups(each_item, False)

    @device
    def apply_all(on, smem, now, j, item):
        """Apply the optimizer to one item of stored gradients, clipped by their norm."""
        to = settings_of(on, now)
        at, g = cuda.local.array(each_item, numba.int64), cuda.local.array((1, each_item), scalar)
        old = cuda.local.array((4, each_item), scalar)
        for q in range(each_item):
            p = item * ITEM + q * THREADS + cuda.threadIdx.x
            at[q] = p if p < to.plane else -1
            g[0, q] = zero
        read_gradients(on.work, to.gradients, at, False, g, 0)
        if not now.clip >= one:  # the negation lets a NaN norm reach the parameters
            for q in range(each_item):
                g[0, q] = g[0, q] * now.clip
        apply_some(on, to, at, False, g, old)

    return apply_all


@functools.cache
def job_item(spec, narrow, wide, each_item):
    """Return the device function f(on, smem, now, j, row, column, split, tile, item) for one item of job ``j``."""
    dtype = np.dtype(spec.dtype)
    gather = (augmenting if spec.augments else gathering)(dtype, narrow)
    forward, delta, gradient = (product(kind, spec, narrow) for kind in (FORWARD, DELTA, WEIGHTS))
    wide_forward = wide_delta = wide_gradient = no_product
    if spec.wide:
        wide_forward, wide_delta, wide_gradient = (
            product(kind, spec, wide, True) for kind in (FORWARD, DELTA, WEIGHTS)
        )
    of_rows = jobs_of_rows(spec, narrow)
    loss, activated, activated_back = of_rows[LOSS], of_rows[ACTIVATE], of_rows[ACTIVATE_BACK]
    drop, drop_back, norm, norm_back = of_rows[DROP], of_rows[DROP_BACK], of_rows[NORM], of_rows[NORM_BACK]
    soft, soft_back = of_rows[SOFTMAX], of_rows[SOFTMAX_BACK]
    scaled, scaled_back = of_rows[NORMALIZE], of_rows[NORMALIZE_BACK]
    by_column, by_column_back = of_rows[BY_COLUMN], of_rows[BY_COLUMN_BACK]
    column_gradient = column_gradient_job(spec, narrow) if COLUMN_GRADIENT in spec.jobs else absent
    norm_gradient = norm_gradient_job(spec, narrow) if NORM_GRADIENT in spec.jobs else absent
    apply_all = update_job(spec, narrow, each_item) if UPDATE in spec.jobs else absent

    @device
    def do(on, smem, now, j, row, column, split, tile, item):
        """Execute one work item: a tile of a product, one split of a tile, or the unit of another job."""
        kind, o, is_wide = on.jobs[j, KIND], U(on.jobs[j, OP]), on.jobs[j, WIDE] != 0
        if kind == FORWARD and is_wide:
            wide_forward(on, smem, now, j, row, column, split, tile)
        elif kind == FORWARD:
            forward(on, smem, now, j, row, column, split, tile)
        elif kind == DELTA and is_wide:
            wide_delta(on, smem, now, j, row, column, split, tile)
        elif kind == DELTA:
            delta(on, smem, now, j, row, column, split, tile)
        elif kind == WEIGHTS and is_wide:
            wide_gradient(on, smem, now, j, row, column, split, tile)
        elif kind == WEIGHTS:
            gradient(on, smem, now, j, row, column, split, tile)
        elif kind == LOSS:
            loss(on, smem, now, o, row)
        elif kind == ACTIVATE:
            activated(on, smem, now, o, row)
        elif kind == ACTIVATE_BACK:
            activated_back(on, smem, now, o, row)
        elif kind == DROP:
            drop(on, smem, now, o, row)
        elif kind == DROP_BACK:
            drop_back(on, smem, now, o, row)
        elif kind == NORM:
            norm(on, smem, now, o, row)
        elif kind == NORM_BACK:
            norm_back(on, smem, now, o, row)
        elif kind == SOFTMAX:
            soft(on, smem, now, o, row)
        elif kind == SOFTMAX_BACK:
            soft_back(on, smem, now, o, row)
        elif kind == NORMALIZE:
            scaled(on, smem, now, o, row)
        elif kind == NORMALIZE_BACK:
            scaled_back(on, smem, now, o, row)
        elif kind == BY_COLUMN:
            by_column(on, smem, now, o, row)
        elif kind == BY_COLUMN_BACK:
            by_column_back(on, smem, now, o, row)
        elif kind == COLUMN_GRADIENT:
            column_gradient(on, smem, now, j, item)
        elif kind == NORM_GRADIENT:
            norm_gradient(on, smem, now, j, item)
        elif kind == UPDATE:
            apply_all(on, smem, now, j, item)
        elif kind == GATHER:
            gather(on, now.s + 1, now.next_first, now.next_rows, now.next_x, row, column)

    return do
