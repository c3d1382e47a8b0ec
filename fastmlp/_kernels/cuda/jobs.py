"""Jobs of the persistent kernel on a stretch of rows: losses, softmax, layer norm, normalization and dropout.

Each factory returns a device function (on, smem, now, o, row): the run's `Memory`, the block's `Scratch`, the step's
`StepContext`, the operation ``o`` and the first ``row`` of the stretch, see `tiles`. `table` lists the kinds of jobs.
"""

from __future__ import annotations

import functools
import math

import numpy as np

from ..._common.philox import DROPOUT
from ..reference import probability_floor
from .augmenting import counters_of, mixing
from .epilogue import epilogue_of, through
from .jit import device
from .random import random_words
from .rows import class_share, loss_formula, target_weight
from .runtime import cuda
from .table import (
    BELOW,
    BIAS,
    IN,
    LAYER,
    MEAN,
    MEANS,
    RSTDS,
    SCALE,
    SEED,
    THRESHOLD,
    WEIGHT,
    G,
    Y,
)  # fmt: skip
from .tiles import U, features, inputs_of

__all__ = ["classwise_loss", "dropping", "elementwise_loss", "layer_norm", "normalizing", "softmax", "warp_reduce"]


def _number(dtype):
    return np.dtype(dtype).type


# ------------------------------------------------------------------------------------ sums over a row


@functools.cache
def warp_reduce(share, larger=False):
    """Return f(v, shared) that gives ``share`` adjacent threads the sum, or the maximum, of their values.

    ``shared`` has one element per thread of the block.
    """

    @device
    def run(v, shared):
        thread = cuda.threadIdx.x
        shared[U(thread)] = v
        cuda.syncthreads()
        first = thread - thread % share
        total = shared[U(first)]
        for i in range(1, share):
            other = shared[U(first + i)]
            if not larger:
                total += other
            elif other > total:
                total = other
        cuda.syncthreads()  # the next reduction may overwrite ``shared``
        return total

    return run


# -------------------------------------------------------------------------------------------- losses


@functools.cache
def classwise_loss(dtype, geometry, kinds, name, from_logits, by_index, mixes):
    """Return the job of a classwise loss; ``numbers[o]`` is (smoothing, a), WEIGHT the offset of class weights."""
    return _by_length(
        geometry, lambda share: _classwise(dtype, geometry, kinds, name, from_logits, by_index, mixes, share)
    )


@functools.cache
def _of_row(dtype, mixes):
    """Return f(on, now, r) -> (index of row ``r``'s target, index to mix it with, both shares, the row's weight)."""
    one, zero = _number(dtype)(1), _number(dtype)(0)

    @device
    def run(on, now, r):
        source = on.order[U(now.first + r)]
        other, part, rest = source, one, zero
        if mixes and on.shares.size > 0:
            part, place = mixing(on, now.s, now.rows, r)
            other, rest = on.order[U(now.first + place)], one - part
        weight = one
        if on.row_weights.size > 0:
            weight = on.row_weights[source]
            if mixes:
                weight = part * weight + rest * on.row_weights[other]
        return source, other, part, rest, weight

    return run


def _by_length(geometry, make):
    """Return the loss job that selects between two numbers of threads per row by the length of the rows.

    ``make(share)`` is the job with ``share`` threads per row. For rows of at most 2 * SIDE columns, the block divides
    its threads among all rows of the stretch at once. For longer rows, SIDE threads work on one row.
    """
    few, many = make(max(1, geometry.threads // geometry.tile)), make(geometry.side)
    most = 2 * geometry.side

    @device
    def run(on, smem, now, o, row):
        if on.ops[o, IN] <= most:
            few(on, smem, now, o, row)
        else:
            many(on, smem, now, o, row)

    return run


def _classwise(dtype, geometry, kinds, name, from_logits, by_index, mixes, share):
    size, at_once = geometry.tile, geometry.threads // share
    T = _number(dtype)
    zero, lowest, floor = T(0), T(-math.inf), T(probability_floor(np.dtype(dtype)))
    total_of, largest_of = warp_reduce(share), warp_reduce(share, True)
    weight_of_one, write, of_row = target_weight(np.dtype(dtype)), through(kinds, dtype), _of_row(dtype, mixes)
    share_of, weights_are_gradients = class_share(name, np.dtype(dtype)), name == "cross_entropy"

    @device
    def weight_of(on, source, other, part, rest, c, columns, at_weight, smoothing):
        weighted = at_weight >= 0
        w = weight_of_one(
            source, c, columns, on.labels, on.targets, by_index, on.weights, at_weight, weighted, smoothing
        )
        if mixes:  # the weight of a mixed row is the mix of both rows' weights
            w = part * w + rest * weight_of_one(
                other, c, columns, on.labels, on.targets, by_index, on.weights, at_weight, weighted, smoothing
            )
        return w

    @device
    def run(on, smem, now, o, row):
        ty, tx = cuda.threadIdx.x // share, cuda.threadIdx.x % share
        columns, x, below, at_weight = on.ops[o, IN], on.ops[o, Y], on.ops[o, BELOW], on.ops[o, WEIGHT]
        smoothing, a, epilogue = on.numbers[o, 0], on.numbers[o, 1], epilogue_of(on, U(max(below, 0)))
        for start in range(row, row + size, at_once):
            r = start + ty
            inside = r < now.rows
            at, scale = U(x + r * columns), zero
            source, other, part, rest = 0, 0, zero, zero
            if inside:
                source, other, part, rest, scale = of_row(on, now, r)
                scale = scale / now.normalizer
            m, total, weights, loss = lowest, zero, zero, zero
            if from_logits:
                if inside:
                    for c in range(tx, columns, share):
                        if on.work[at + U(c)] > m:
                            m = on.work[at + U(c)]
                m = largest_of(m, smem.left)
                if inside:
                    for c in range(tx, columns, share):
                        total += math.exp(on.work[at + U(c)] - m)
                        if weights_are_gradients:
                            weights += weight_of(on, source, other, part, rest, c, columns, at_weight, smoothing)
                total = total_of(total, smem.left)
                if inside and not weights_are_gradients:
                    for c in range(tx, columns, share):
                        w = weight_of(on, source, other, part, rest, c, columns, at_weight, smoothing)
                        weights += share_of(w, on.work[at + U(c)] - m - math.log(total), a)[1]
                weights = total_of(weights, smem.left)
            if inside:
                for c in range(tx, columns, share):
                    w = weight_of(on, source, other, part, rest, c, columns, at_weight, smoothing)
                    v = on.work[at + U(c)]
                    if from_logits:
                        value, w = share_of(w, v - m - math.log(total), a)
                        loss += value
                        gradient = math.exp(v - m) / total * weights - w
                    else:
                        p = floor if v < floor else v
                        loss -= w * math.log(p)
                        gradient = -w / p
                    if below >= 0:
                        write(on, epilogue, r * columns + c, gradient * scale)
            loss = total_of(loss, smem.left)
            if tx == 0:
                smem.losses[start - row + ty] = scale * loss

    return run


@functools.cache
def elementwise_loss(dtype, geometry, kinds, name, mixes):
    """Return the job of an elementwise loss; ``numbers[o]`` is (a, b), WEIGHT the offset of the column weights."""
    return _by_length(geometry, lambda share: _elementwise(dtype, geometry, kinds, name, mixes, share))


def _elementwise(dtype, geometry, kinds, name, mixes, share):
    size, at_once = geometry.tile, geometry.threads // share
    T = _number(dtype)
    zero = T(0)
    total_of, write, of_row = warp_reduce(share), through(kinds, dtype), _of_row(dtype, mixes)
    element, one = loss_formula(name, np.dtype(dtype)), T(1)

    @device
    def run(on, smem, now, o, row):
        ty, tx = cuda.threadIdx.x // share, cuda.threadIdx.x % share
        columns, x, below, at_weight = on.ops[o, IN], on.ops[o, Y], on.ops[o, BELOW], on.ops[o, WEIGHT]
        a, b, epilogue = on.numbers[o, 0], on.numbers[o, 1], epilogue_of(on, U(max(below, 0)))
        for start in range(row, row + size, at_once):
            r = start + ty
            loss, scale = zero, zero
            if r < now.rows:
                source, other, part, rest, scale = of_row(on, now, r)
                scale = scale / now.normalizer
                for c in range(tx, columns, share):
                    w = one
                    if at_weight >= 0:
                        w = on.weights[at_weight + c]
                    v, t = on.work[U(x + r * columns + c)], on.targets[source, c]
                    if mixes:
                        t = part * t + rest * on.targets[other, c]
                    term, derivative = element(v, t, w, a, b)
                    loss += term
                    if below >= 0:
                        write(on, epilogue, r * columns + c, derivative * scale)
            loss = total_of(loss, smem.left)
            if tx == 0:
                smem.losses[start - row + ty] = scale * loss

    return run


# ------------------------------------------------------- softmax, layer norm, normalization, dropout


@functools.cache
def softmax(dtype, geometry, kinds, backward):
    """Return the job for the softmax of rows, or for its gradient."""
    side, size = geometry.side, geometry.tile
    T = _number(dtype)
    zero, lowest = T(0), T(-math.inf)
    total_of, largest_of = warp_reduce(side), warp_reduce(side, True)
    write = through(kinds, dtype)

    @device
    def run(on, smem, now, o, row):
        ty, tx = cuda.threadIdx.x // side, cuda.threadIdx.x % side
        columns, y, g, inputs = on.ops[o, IN], on.ops[o, Y], on.ops[o, G], inputs_of(on, now, o)
        epilogue = epilogue_of(on, max(on.ops[o, BELOW], 0))
        for start in range(row, row + size, side):
            r = start + ty
            inside, at = r < now.rows, r * columns
            m, total = lowest, zero
            if backward:
                if inside:
                    for c in range(tx, columns, side):
                        total += on.work[g + at + c] * on.work[y + at + c]
                total = total_of(total, smem.left)
                if inside:
                    for c in range(tx, columns, side):
                        v = on.work[y + at + c] * (on.work[g + at + c] - total)
                        write(on, epilogue, at + c, v)
            else:
                if inside:
                    for c in range(tx, columns, side):
                        v = features(on, inputs, r, c)
                        if v > m:
                            m = v
                m = largest_of(m, smem.left)
                if inside:
                    for c in range(tx, columns, side):
                        e = math.exp(features(on, inputs, r, c) - m)
                        on.work[y + at + c] = e
                        total += e
                total = total_of(total, smem.left)
                if inside:
                    for c in range(tx, columns, side):
                        on.work[y + at + c] /= total

    return run


@functools.cache
def layer_norm(dtype, geometry, kinds, backward):
    """Return the job for the layer norm of rows, or for its gradient; ``numbers[o, 0]`` is eps."""
    side, size = geometry.side, geometry.tile
    T = _number(dtype)
    zero, one = T(0), T(1)
    total_of, write = warp_reduce(side), through(kinds, dtype)

    @device
    def run(on, smem, now, o, row):
        ty, tx = cuda.threadIdx.x // side, cuda.threadIdx.x % side
        columns, gain, shift, eps = on.ops[o, IN], on.ops[o, WEIGHT], on.ops[o, BIAS], on.numbers[o, 0]
        means, rstds = on.ops[o, MEANS], on.ops[o, RSTDS]
        inputs, own_epilogue = inputs_of(on, now, o), epilogue_of(on, o)
        affine, epilogue, count = gain >= 0, epilogue_of(on, max(on.ops[o, BELOW], 0)), T(columns)
        for start in range(row, row + size, side):
            r = start + ty
            inside, at = r < now.rows, r * columns
            if backward:
                mean, rstd, g, gz = zero, zero, zero, zero
                if inside:
                    mean, rstd = on.work[means + r], on.work[rstds + r]
                    for c in range(tx, columns, side):
                        v = on.work[own_epilogue.g + at + c]
                        if affine:
                            v = v * on.weights[gain + c]
                        g += v
                        gz += v * ((features(on, inputs, r, c) - mean) * rstd)
                g = total_of(g, smem.left) / count
                gz = total_of(gz, smem.left) / count
                if inside:
                    for c in range(tx, columns, side):
                        v = on.work[own_epilogue.g + at + c]
                        if affine:
                            v = v * on.weights[gain + c]
                        z = (features(on, inputs, r, c) - mean) * rstd
                        write(on, epilogue, at + c, (v - g - z * gz) * rstd)
            else:
                total, squares = zero, zero
                if inside:
                    for c in range(tx, columns, side):
                        total += features(on, inputs, r, c)
                mean = total_of(total, smem.left) / count
                if inside:
                    for c in range(tx, columns, side):
                        d = features(on, inputs, r, c) - mean
                        squares += d * d
                rstd = one / math.sqrt(total_of(squares, smem.left) / count + eps)
                if inside:
                    if tx == 0:
                        on.work[means + r] = mean
                        on.work[rstds + r] = rstd
                    for c in range(tx, columns, side):
                        v = (features(on, inputs, r, c) - mean) * rstd
                        if affine:
                            v = v * on.weights[gain + c] + on.weights[shift + c]
                        on.work[own_epilogue.y + at + c] = v

    return run


@functools.cache
def normalizing(dtype, geometry, kinds, backward):
    """Return the job for (x - mean) / scale by column, or for its gradient."""
    threads, size = geometry.threads, geometry.tile
    write = through(kinds, dtype)

    @device
    def run(on, smem, now, o, row):
        columns, shift, factor, inputs = on.ops[o, IN], on.ops[o, MEAN], on.ops[o, SCALE], inputs_of(on, now, o)
        own_epilogue, epilogue = epilogue_of(on, o), epilogue_of(on, max(on.ops[o, BELOW], 0))
        for i in range(row * columns + cuda.threadIdx.x, min(now.rows, row + size) * columns, threads):
            c = i % columns
            if backward:
                write(on, epilogue, i, on.work[own_epilogue.g + i] * on.weights[factor + c])
            else:
                v = features(on, inputs, i // columns, c) - on.weights[shift + c]
                on.work[own_epilogue.y + i] = v * on.weights[factor + c]

    return run


_PURPOSE = np.uint64(DROPOUT << 24)


@functools.cache
def dropping(dtype, geometry, kinds, backward):
    """Return the job for dropout, see `reference.dropout`, or for its gradient."""
    threads, size = geometry.threads, geometry.tile
    T = _number(dtype)
    zero, write = T(0), through(kinds, dtype)

    @device
    def run(on, smem, now, o, row):
        columns, factor = on.ops[o, IN], on.numbers[o, 0]
        inputs, own_epilogue = inputs_of(on, now, o), epilogue_of(on, o)
        fours = (columns + 3) // 4  # groups of four columns, one Philox counter each
        threshold, epilogue = np.uint64(on.ops[o, THRESHOLD]), epilogue_of(on, max(on.ops[o, BELOW], 0))
        last = _PURPOSE | np.uint64(on.ops[o, LAYER])
        seed = np.uint64(on.ops[o, SEED])
        for i in range(cuda.threadIdx.x, size * fours, threads):
            r, block = row + i // fours, i % fours
            if r < now.rows:
                line, count = counters_of(on, now.s, r)
                c0, c1, c2, c3 = random_words(np.uint64(block), line, count, last, seed)
                for j in range(4):
                    c = 4 * block + j
                    word = c0 if j == 0 else c1 if j == 1 else c2 if j == 2 else c3
                    if c < columns:
                        at = r * columns + c
                        v = zero
                        if backward:
                            if word >= threshold:
                                v = on.work[own_epilogue.g + at] * factor
                            write(on, epilogue, at, v)
                        else:
                            if word >= threshold:
                                v = features(on, inputs, r, c) * factor
                            on.work[own_epilogue.y + at] = v

    return run
