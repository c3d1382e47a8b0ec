"""The three products of a layer, a tile of the result at a time, as a block of the persistent kernel makes them.

A block is SIDE x SIDE threads in one row; each keeps EACH x EACH sums in registers. Of the inner dimension DEPTH steps
at a time are brought to shared memory, while those before are computed with. A sum is one chain of fused
multiply-adds in ascending order. What the tables say is read before a loop, not in it: the compiler cannot tell that
nothing in the loop writes to them.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numba
import numpy as np

from .runtime import cuda, device
from .table import DATA, DELTA, FORWARD, IN, MEAN, OUT, SCALE, WEIGHT, WEIGHTS, G, X

__all__ = [
    "NARROW", "WIDE_TILES", "Geometry", "Inputs", "Memory", "Now", "Scratch", "features", "inputs_of", "multiply",
]  # fmt: skip


class Memory(NamedTuple):
    """The arrays of a run of steps, see `steps`; ``on`` in all device functions."""

    data: Any
    order: Any
    labels: Any
    targets: Any
    row_weights: Any
    hyper: Any
    clips: Any
    ops: Any
    numbers: Any
    jobs: Any
    meters: Any
    work: Any
    weights: Any
    sums: Any
    parts: Any


class Scratch(NamedTuple):
    """A block's shared memory: ``own`` in all device functions."""

    left: Any  # (DEPTH, PITCH), of narrow tiles
    right: Any
    wide_left: Any  # of wide ones
    wide_right: Any
    square: Any  # (SIDE, SIDE)
    losses: Any  # of the rows of a stretch
    doubles: Any  # one a thread


class Now(NamedTuple):
    """What is the same for all of a step's jobs."""

    first: Any  # the batch's place in the order
    rows: Any
    normalizer: Any
    penalty: Any
    h: Any  # the place of the step's numbers in hyper
    count: Any  # the step, for random numbers
    clip: Any  # what gradients are multiplied by


class Inputs(NamedTuple):
    """What an operation takes in: where, how wide, and how it is scaled."""

    x: Any
    width: Any
    mean: Any
    scale: Any


class Geometry(NamedTuple):
    """Threads along a side of a tile, results along the side of a thread's, and inner steps at a time."""

    side: int
    each: int
    depth: int

    @property
    def tile(self) -> int:
        """Rows, and columns, of a tile."""
        return self.side * self.each

    @property
    def pitch(self) -> int:
        """Elements from one inner step to the next in shared memory: 16 bytes more than a tile, for vector loads."""
        return self.tile + 4

    @property
    def threads(self) -> int:
        """Of a block."""
        return self.side * self.side

    @property
    def group(self) -> int:
        """Rows of threads whose results have room in one of the two arrays in shared memory: a power of two."""
        return 1 << (min(self.side, self.depth // self.each).bit_length() - 1)


# 64 x 64 and 128 x 128. The wide one reads shared memory half as often for each result, and needs large matrices.
NARROW, WIDE_TILES = Geometry(16, 4, 32), Geometry(16, 8, 16)


@device
def inputs_of(on, o):
    return Inputs(on.ops[o, X], on.ops[o, IN], on.ops[o, MEAN], on.ops[o, SCALE])


@functools.cache
def features(dtype):
    """f(on, first, inputs, m, k): element (m, k) of what an operation takes in, scaled where it is the data."""
    T = np.dtype(dtype).type

    @device
    def element(on, first, inputs, m, k):
        if inputs.x != DATA:
            return on.work[inputs.x + m * inputs.width + k]
        v = T(on.data[on.order[first + m], k])
        if inputs.mean >= 0:
            v = v - on.weights[inputs.mean + k]
        if inputs.scale >= 0:
            v = v / on.weights[inputs.scale + k]
        return v

    return element


@functools.cache
def multiply(kind, dtype, geometry, is_wide):
    """A device function that fills ``sums (EACH, EACH)`` with a thread's part of a tile of a product.

    FORWARD: x Wᵀ (rows, OUT); DELTA: G W (rows, IN); WEIGHTS: Gᵀ x (OUT, IN). The tile begins at (row, column); inner
    steps are begin .. end. Where WEIGHTS begin at column 0, ``ones (EACH,)`` gets a thread's share of Gᵀ 1, the bias's
    gradient: its rows' sum over every SIDE-th inner step.
    """
    SIDE, EACH, DEPTH = geometry
    TILE, THREADS = geometry.tile, geometry.threads
    PASSES = TILE * DEPTH // THREADS
    assert PASSES * THREADS == TILE * DEPTH and DEPTH % SIDE == 0 and DEPTH >= EACH
    T = np.dtype(dtype).type
    zero, scalar = T(0), numba.from_dtype(np.dtype(dtype))
    x_of = features(dtype)
    forward, delta = kind == FORWARD, kind == DELTA
    # Threads next to each other read addresses next to each other: along the inner dimension, or across it.
    left_inner, right_inner = forward or delta, forward

    @device
    def step(sums, left, right, k, ty, tx):
        for i in range(EACH):
            element = left[k, ty * EACH + i]
            for j in range(EACH):
                sums[i, j] += element * right[k, tx * EACH + j]

    @device
    def run(sums, ones, on, own, now, o, row, column, begin, end):
        a, b = cuda.local.array(PASSES, scalar), cuda.local.array(PASSES, scalar)
        thread = cuda.threadIdx.x
        ty, tx = thread // SIDE, thread % SIDE
        left, right = (own.wide_left, own.wide_right) if is_wide else (own.left, own.right)
        inputs, w, g, inner, outer = inputs_of(on, o), on.ops[o, WEIGHT], on.ops[o, G], on.ops[o, IN], on.ops[o, OUT]
        height, width = (outer if kind == WEIGHTS else now.rows), (outer if forward else inner)
        for i in range(EACH):
            ones[i] = zero
            for j in range(EACH):
                sums[i, j] = zero
        for start in range(begin, end + DEPTH, DEPTH):
            if start > begin:  # compute with what was brought, once all have brought it
                cuda.syncthreads()
                for p in range(PASSES):
                    at = thread + p * THREADS
                    if left_inner:
                        left[at % DEPTH, at // DEPTH] = a[p]
                    else:
                        left[at // TILE, at % TILE] = a[p]
                    if right_inner:
                        right[at % DEPTH, at // DEPTH] = b[p]
                    else:
                        right[at // TILE, at % TILE] = b[p]
                cuda.syncthreads()
            if start < end:  # the next steps are on their way meanwhile
                for p in range(PASSES):
                    at = thread + p * THREADS
                    m, k = (at // DEPTH, at % DEPTH) if left_inner else (at % TILE, at // TILE)
                    m, k = row + m, start + k
                    a[p] = zero
                    if m < height and k < end:
                        if forward:
                            a[p] = x_of(on, now.first, inputs, m, k)
                        elif delta:
                            a[p] = on.work[g + m * outer + k]
                        else:
                            a[p] = on.work[g + k * outer + m]
                    n, k = (at // DEPTH, at % DEPTH) if right_inner else (at % TILE, at // TILE)
                    n, k = column + n, start + k
                    b[p] = zero
                    if n < width and k < end:
                        if forward:
                            b[p] = on.weights[w + n * inner + k]
                        elif delta:
                            b[p] = on.weights[w + k * inner + n]
                        else:
                            b[p] = x_of(on, now.first, inputs, k, n)
            if start > begin:
                for four in range(DEPTH // 4):
                    step(sums, left, right, 4 * four, ty, tx)
                    step(sums, left, right, 4 * four + 1, ty, tx)
                    step(sums, left, right, 4 * four + 2, ty, tx)
                    step(sums, left, right, 4 * four + 3, ty, tx)
                for k in range(DEPTH // 4 * 4, DEPTH):
                    step(sums, left, right, k, ty, tx)
                if kind == WEIGHTS and column == 0:
                    for k in range(tx, DEPTH, SIDE):
                        for i in range(EACH):
                            ones[i] += left[k, ty * EACH + i]

    return run
