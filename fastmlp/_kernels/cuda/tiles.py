"""The three products of a layer, a tile of the result at a time, as a block of the persistent kernel makes them.

A block is SIDE x SIDE threads in one row; each keeps EACH x EACH sums in registers. Of the inner dimension DEPTH steps
at a time are brought to shared memory, while those before are computed with. A sum is one chain of fused
multiply-adds in ascending order. What the tables say is read before a loop, not in it: the compiler cannot tell that
nothing in the loop writes to them. Places in arrays are unsigned there: of a signed one it has to see whether it counts
from the end, for every element. All of a sum are, as one that is signed beside one that is not makes a float64.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numba
import numpy as np

from .assembly import four
from .jit import device
from .runtime import SIMULATED, cuda
from .table import DATA, DELTA, FORWARD, IN, MEAN, OUT, SCALE, WEIGHT, WEIGHTS, G, X
from .tensor import fragments, held, lines, rounding

__all__ = [
    "NARROW", "WIDE_TILES", "Geometry", "Inputs", "Memory", "Now", "Scratch", "features", "inputs_of", "multiply",
    "room", "slices",
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

    left: Any  # a tile of the left matrix, as `tensor.lines` says; of narrow tiles
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


U = np.uint64
if not SIMULATED:
    load4 = four()


def room(precision, geometry):
    """(elements of a block's shared memory for a left and a right tile, from a row of the result there to the next).

    A tile of the result goes through the left one's, GROUP rows of threads at a time.
    """
    pitch = geometry.pitch if precision == "float32" else geometry.tile + 8
    size = max(lines(precision, geometry, along_inner).size for along_inner in (False, True))
    return max(size, geometry.group * geometry.each * pitch), pitch


# 64 x 64 and 128 x 128. The wide one reads shared memory half as often for each result, and needs large matrices.
NARROW, WIDE_TILES = Geometry(16, 4, 32), Geometry(16, 8, 16)


@device
def inputs_of(on, o):
    return Inputs(on.ops[o, X], on.ops[o, IN], on.ops[o, MEAN], on.ops[o, SCALE])


@functools.cache
def scaled(dtype):
    """f(on, inputs, row, k): element k of a row of the data, scaled."""
    T = np.dtype(dtype).type

    @device
    def element(on, inputs, row, k):
        v = T(on.data[row, k])
        if inputs.mean >= 0:
            v = v - on.weights[U(inputs.mean) + k]
        if inputs.scale >= 0:
            v = v / on.weights[U(inputs.scale) + k]
        return v

    return element


@functools.cache
def features(dtype):
    """f(on, first, inputs, m, k): element (m, k) of what an operation takes in, scaled where it is the data."""
    of_data = scaled(dtype)

    @device
    def element(on, first, inputs, m, k):
        if inputs.x != DATA:
            return on.work[inputs.x + m * inputs.width + k]
        return of_data(on, inputs, U(on.order[first + m]), U(k))

    return element


@functools.cache
def bring(dtype, geometry, span):
    """Functions that bring a thread's PASSES elements of a tile (TILE * DEPTH / span, span) of a matrix.

    A thread takes SIDE_BY_SIDE elements of a row at a time, which are read at once where the matrix allows it, and
    threads next to each other take what is next to them. ``place(thread)`` is (row, column) of the thread's first in
    the tile; its element p lies ``down(p)`` rows below it and ``along(p)`` columns beside.
    ``from_array(into, source, place, stride, rows, columns)`` reads a matrix whose element there is source[place];
    elements from so many rows and columns on, seen from there, are zeros. ``from_data(into, on, inputs, first, column,
    rows, columns)`` reads the data's rows order[first], order[first + 1], ...
    """
    THREADS, PASSES = geometry.threads, geometry.tile * geometry.depth // geometry.threads
    SIDE_BY_SIDE = 4 if span % 4 == 0 and PASSES % 4 == 0 else 1
    GROUPS, IN_ROW = PASSES // SIDE_BY_SIDE, span // SIDE_BY_SIDE
    T = np.dtype(dtype).type
    zero, of_data = T(0), scaled(dtype)
    assert PASSES * THREADS == geometry.tile * geometry.depth
    assert THREADS % IN_ROW == 0 or IN_ROW % THREADS == 0

    @device
    def place(thread):
        return thread // IN_ROW, thread % IN_ROW * SIDE_BY_SIDE

    @device
    def down(p):
        return p // SIDE_BY_SIDE * THREADS // IN_ROW

    @device
    def along(p):
        return p // SIDE_BY_SIDE * THREADS % IN_ROW * SIDE_BY_SIDE + p % SIDE_BY_SIDE

    @device
    def array_at_once(into, p, source, place):
        into[p], into[p + 1], into[p + 2], into[p + 3] = load4(source, place)

    @device
    def data_at_once(into, p, on, inputs, row, column):
        a, b, c, d = load4(on.data, row * U(inputs.width) + column)
        v, w, x, y = T(a), T(b), T(c), T(d)
        if inputs.mean >= 0:
            k, m, n, o = load4(on.weights, U(inputs.mean) + column)
            v, w, x, y = v - k, w - m, x - n, y - o
        if inputs.scale >= 0:
            k, m, n, o = load4(on.weights, U(inputs.scale) + column)
            v, w, x, y = v / k, w / m, x / n, y / o
        into[p], into[p + 1], into[p + 2], into[p + 3] = v, w, x, y

    if SIDE_BY_SIDE == 1:  # of small tiles, which are simulated

        @device
        def array_at_once(into, p, source, place):
            into[p] = source[place]

        @device
        def data_at_once(into, p, on, inputs, row, column):
            into[p] = of_data(on, inputs, row, column)

    @device
    def from_array(into, source, place, stride, rows, columns):
        whole = stride % U(SIDE_BY_SIDE) == U(0)
        for group in range(GROUPS):
            p = group * SIDE_BY_SIDE
            inside = down(p) < rows
            if inside and whole and along(p) + SIDE_BY_SIDE <= columns:
                array_at_once(into, p, source, place + U(along(p)))
            else:
                for e in range(p, p + SIDE_BY_SIDE):
                    into[e] = zero
                    if inside and along(e) < columns:
                        into[e] = source[place + U(along(e))]
            if along(p + SIDE_BY_SIDE) == 0:  # one addition a row, in the place of a product
                place += U(down(p + SIDE_BY_SIDE) - down(p)) * stride

    @device
    def from_data(into, on, inputs, first, column, rows, columns):
        whole = inputs.width % SIDE_BY_SIDE == 0
        for group in range(GROUPS):
            p = group * SIDE_BY_SIDE
            inside = down(p) < rows
            row = U(on.order[first + U(down(p))]) if inside else U(0)
            if inside and whole and along(p) + SIDE_BY_SIDE <= columns:
                data_at_once(into, p, on, inputs, row, column + U(along(p)))
            else:
                for e in range(p, p + SIDE_BY_SIDE):
                    into[e] = zero
                    if inside and along(e) < columns:
                        into[e] = of_data(on, inputs, row, column + U(along(e)))

    return place, down, along, from_array, from_data


@functools.cache
def slices(kind, dtype, geometry, precision):
    """How a tile of a product is computed from slices of DEPTH inner steps: (places, store, compute).

    ``places`` are `bring`'s functions for the left matrix and for the right one. ``store(a, b, left, right, thread)``
    puts what a thread has brought of both, ``a`` and ``b (PASSES,)``, into shared memory; ``compute(sums, left, right,
    thread)`` adds the slice's products to its sums.
    """
    EACH, DEPTH, TILE = geometry.each, geometry.depth, geometry.tile
    PASSES = TILE * DEPTH // geometry.threads
    # Along its rows a matrix lies along the inner dimension, or across it.
    left_inner, right_inner = kind in (FORWARD, DELTA), kind == FORWARD
    of_left = bring(dtype, geometry, DEPTH if left_inner else TILE)
    of_right = bring(dtype, geometry, DEPTH if right_inner else TILE)
    left_lines, right_lines = lines(precision, geometry, left_inner), lines(precision, geometry, right_inner)
    # Rounded where it is brought, once, but where the bias's gradient is summed up from it.
    rounds_right = precision == "tf32"
    rounds_left = rounds_right and kind != WEIGHTS

    def put(places, along_inner, its_lines, rounds):
        place, down, along, _, _ = places
        A, B = (its_lines.across, its_lines.inner) if along_inner else (its_lines.inner, its_lines.across)
        rounded = rounding if rounds else device(lambda v: v)

        @device
        def run(values, shared, thread):
            i, j = place(thread)
            at = U(i) * U(A) + U(j) * U(B)
            for p in range(PASSES):  # first, as nothing may stand between stores that are to become one
                values[p] = rounded(values[p])
            for p in range(PASSES):
                shared[at + U(down(p) * A + along(p) * B)] = values[p]

        return run

    put_left = put(of_left, left_inner, left_lines, rounds_left)
    put_right = put(of_right, right_inner, right_lines, rounds_right)

    @device
    def store(a, b, left, right, thread):
        put_left(a, left, thread)
        put_right(b, right, thread)

    if precision == "float32":
        place, _, _ = held(precision, geometry)
        PITCH = geometry.pitch

        @device
        def step(sums, left, right, k, row, column):
            at_left, at_right = k * U(PITCH) + row, k * U(PITCH) + column
            for i in range(EACH):
                element = left[at_left + U(i)]
                for j in range(EACH):
                    sums[i, j] += element * right[at_right + U(j)]

        @device
        def compute(sums, left, right, thread):
            i, j = place(thread)
            row, column = U(i), U(j)
            for four in range(DEPTH // 4):
                k = U(4 * four)
                step(sums, left, right, k, row, column)
                step(sums, left, right, k + U(1), row, column)
                step(sums, left, right, k + U(2), row, column)
                step(sums, left, right, k + U(3), row, column)
            for k in range(DEPTH // 4 * 4, DEPTH):
                step(sums, left, right, U(k), row, column)

    else:
        STEP, of_warp = fragments(precision, geometry, left_lines, right_lines, precision == "tf32" and not rounds_left)

        @device
        def compute(sums, left, right, thread):
            for s in range(DEPTH // STEP):
                of_warp(sums, left, right, U(s * STEP), thread)

    return (of_left, of_right), store, compute


@functools.cache
def multiply(kind, dtype, geometry, is_wide, precision):
    """A device function that fills ``sums (EACH, EACH)`` with a thread's part of a tile of a product.

    `tensor.held` says which part. FORWARD: x Wᵀ (rows, OUT); DELTA: G W (rows, IN); WEIGHTS: Gᵀ x (OUT, IN). The tile
    begins at (row, column); inner steps are begin .. end. Where WEIGHTS begin at column 0, ``ones (EACH,)`` gets a
    thread's share of Gᵀ 1, the bias's gradient: its rows' sum over every SIDE-th inner step.
    """
    SIDE, EACH, DEPTH = geometry
    TILE, THREADS = geometry.tile, geometry.threads
    PASSES = TILE * DEPTH // THREADS
    assert DEPTH % SIDE == 0 and DEPTH >= EACH
    zero, scalar = np.dtype(dtype).type(0), numba.from_dtype(np.dtype(dtype))
    forward = kind == FORWARD
    left_inner, right_inner = kind in (FORWARD, DELTA), forward
    (of_left, of_right), store, compute = slices(kind, dtype, geometry, precision)
    left_place, _, _, left_array, left_data = of_left
    right_place, _, _, right_array, right_data = of_right
    LINE = lines(precision, geometry, left_inner).inner

    @device
    def run(sums, ones, on, own, now, o, row, column, begin, end):
        a, b = cuda.local.array(PASSES, scalar), cuda.local.array(PASSES, scalar)
        thread = cuda.threadIdx.x
        ty, tx = thread // SIDE, thread % SIDE
        left, right = (own.wide_left, own.wide_right) if is_wide else (own.left, own.right)
        inputs, w, g, inner, outer = inputs_of(on, o), on.ops[o, WEIGHT], on.ops[o, G], on.ops[o, IN], on.ops[o, OUT]
        height, width = (outer if kind == WEIGHTS else now.rows), (outer if forward else inner)
        is_data = inputs.x == DATA
        for i in range(EACH):
            ones[i] = zero
            for j in range(EACH):
                sums[i, j] = zero
        # The thread's first elements in both tiles, as the matrices lie.
        l0, l1 = left_place(thread)
        r0, r1 = right_place(thread)
        left_stride, right_stride = U(inner if forward else outer), U(inner)
        for start in range(begin, end + DEPTH, DEPTH):
            if start > begin:  # compute with what was brought, once all have brought it
                cuda.syncthreads()
                store(a, b, left, right, thread)
                cuda.syncthreads()
            if start < end:  # the next steps are on their way meanwhile
                i, j = (row + l0, start + l1) if left_inner else (start + l0, row + l1)
                rows, columns = (height - i, end - j) if left_inner else (end - i, height - j)
                if not forward:
                    left_array(a, on.work, U(g) + U(i) * left_stride + U(j), left_stride, rows, columns)
                elif is_data:
                    left_data(a, on, inputs, U(now.first + i), U(j), rows, columns)
                else:
                    left_array(a, on.work, U(inputs.x) + U(i) * left_stride + U(j), left_stride, rows, columns)
                i, j = (column + r0, start + r1) if right_inner else (start + r0, column + r1)
                rows, columns = (width - i, end - j) if right_inner else (end - i, width - j)
                if kind != WEIGHTS:
                    right_array(b, on.weights, U(w) + U(i) * right_stride + U(j), right_stride, rows, columns)
                elif is_data:
                    right_data(b, on, inputs, U(now.first + i), U(j), rows, columns)
                else:
                    right_array(b, on.work, U(inputs.x) + U(i) * right_stride + U(j), right_stride, rows, columns)
            if start > begin:
                compute(sums, left, right, thread)
                if kind == WEIGHTS and column == 0:
                    for k in range(tx, DEPTH, SIDE):
                        for i in range(EACH):
                            ones[i] += left[k * LINE + ty * EACH + i]

    return run
