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

from .assembly import four, instruction
from .jit import device
from .runtime import SIMULATED, cuda
from .table import DATA, DELTA, FORWARD, IN, MEAN, OUT, SCALE, WEIGHT, WEIGHTS, G, X
from .tensor import fragments, held, lines, rounding

__all__ = [
    "NARROW", "WIDE_TILES", "Geometry", "Inputs", "Memory", "Now", "Scratch", "buffers", "features", "inputs_of",
    "multiply", "quotient", "room", "slices", "this_thread",
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

    left: Any  # a tile of the left matrix, as `tensor.lines` says, or two of them
    right: Any
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
    """What an operation takes in: where, how wide, and where its mean is and what it is multiplied by."""

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


@device
def this_thread():
    """A thread's number in its block, as if it might change: what follows from it would else be computed once for all
    kinds of tiles, at a kernel's begin, and kept in more registers than there are."""
    return cuda.threadIdx.x


if not SIMULATED:
    load4 = four()
    _number = instruction("mov.u32 $0, %tid.x;", "=r", (), ("int32",), False)
    _divide = instruction("div.u32 $0, $1, $2;", "=r,r,r", ("uint32", "uint32"), ("uint32",), True)

    @device
    def this_thread():
        return numba.int64(_number())


def room(precision, geometry):
    """(elements of a block's shared memory for a left and a right tile, from a row of the result there to the next).

    A tile of the result goes through the left one's, GROUP rows of threads at a time.
    """
    pitch = geometry.pitch if precision == "float32" else geometry.tile + 8
    size = max(lines(precision, geometry, along_inner).size for along_inner in (False, True))
    return max(size, geometry.group * geometry.each * pitch), pitch


def buffers(precision, dtype, geometry):
    """How many slices of both tiles have room in a block's shared memory: two, or one."""
    return 2 if 4 * room(precision, geometry)[0] * np.dtype(dtype).itemsize <= _SHARED else 1


_SHARED = 38 << 10  # bytes of a block's 48 KiB that are not the tables' and the sums'

# 64 x 64 and 128 x 128. The wide one reads shared memory half as often for each result, and needs large matrices.
NARROW, WIDE_TILES = Geometry(16, 4, 32), Geometry(16, 8, 16)


@device
def inputs_of(on, o):
    return Inputs(on.ops[o, X], on.ops[o, IN], on.ops[o, MEAN], on.ops[o, SCALE])


@device
def quotient(a, b):
    """a // b of numbers below 2^32: of 64 bits, with signs, that is 70 instructions, each waiting for the last."""
    return numba.int64(_divide(np.uint32(a), np.uint32(b)))


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
            v = v * on.weights[U(inputs.scale) + k]
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
    last = (GROUPS - 1) * THREADS  # of a thread's places
    ROWS, COLUMNS = last // IN_ROW + 1, max(g * THREADS % IN_ROW for g in range(GROUPS)) * SIDE_BY_SIDE + SIDE_BY_SIDE

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
            v, w, x, y = v * k, w * m, x * n, y * o
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
        if whole and rows >= ROWS and columns >= COLUMNS:  # most tiles, and a fraction of what follows
            for group in range(GROUPS):
                p = group * SIDE_BY_SIDE
                array_at_once(into, p, source, place + U(along(p)))
                if along(p + SIDE_BY_SIDE) == 0:
                    place += U(down(p + SIDE_BY_SIDE) - down(p)) * stride
            return
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
        if whole and rows >= ROWS and columns >= COLUMNS:
            for group in range(GROUPS):
                p = group * SIDE_BY_SIDE
                row = U(on.order[first + U(down(p))])
                data_at_once(into, p, on, inputs, row, column + U(along(p)))
            return
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

    ``places`` are `bring`'s functions for the left matrix and for the right one. ``store(a, b, left, right, first,
    thread)`` puts what a thread has brought of both, ``a`` and ``b (PASSES,)``, into shared memory, from element
    ``first`` on; ``compute(sums, left, right, first, thread)`` adds the slice's products to its sums.
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

    # Four inner steps of a row go to four lines of shared memory, and those of a warp's threads would meet in a few
    # banks: so rows stand in another order there, which the place in the line says, and others in other fours of lines.
    turned = precision == "float32" and TILE % 32 == 0 and geometry.threads * 4 % (32 * DEPTH) == 0

    def put(places, along_inner, its_lines, rounds):
        place, down, along, _, _ = places
        A, B = (its_lines.across, its_lines.inner) if along_inner else (its_lines.inner, its_lines.across)
        rounded = rounding if rounds else device(lambda v: v)
        turns = turned and along_inner

        @device
        def run(values, shared, first, thread):
            i, j = place(thread)
            at = first + U(i ^ (j & 28) if turns else i) * U(A) + U(j) * U(B)
            for p in range(PASSES):  # first, as nothing may stand between stores that are to become one
                values[p] = rounded(values[p])
            for p in range(PASSES):
                shared[at + U(down(p) * A + along(p) * B)] = values[p]

        return run

    put_left = put(of_left, left_inner, left_lines, rounds_left)
    put_right = put(of_right, right_inner, right_lines, rounds_right)

    @device
    def store(a, b, left, right, first, thread):
        put_left(a, left, first, thread)
        put_right(b, right, first, thread)

    if precision == "float32":
        place, far, _ = held(precision, geometry)
        PITCH, scalar = geometry.pitch, numba.from_dtype(np.dtype(dtype))
        turns_left, turns_right = turned and left_inner, turned and right_inner
        assert DEPTH == 2 or DEPTH % 4 == 0

        @device
        def places(first, k, row, column):
            return (
                first + k * U(PITCH) + (row ^ (k & U(28)) if turns_left else row),
                first + k * U(PITCH) + (column ^ (k & U(28)) if turns_right else column),
            )

        @device
        def fetch(ours, theirs, slot, left, right, at_left, at_right, step):
            for i in range(EACH):
                ours[slot, i] = left[at_left + U(step * PITCH + far(i))]
            for i in range(EACH):
                theirs[slot, i] = right[at_right + U(step * PITCH + far(i))]

        @device
        def add(sums, ours, theirs, slot):
            for i in range(EACH):
                for j in range(EACH):
                    sums[i, j] += ours[slot, i] * theirs[slot, j]

        @device
        def compute(sums, left, right, first, thread):
            # The next step's factors are on their way while this one's are multiplied. After the last step come the
            # first's again, which are of no use, but no branch.
            ours, theirs = cuda.local.array((2, EACH), scalar), cuda.local.array((2, EACH), scalar)
            i, j = place(thread)
            row, column = U(i), U(j)
            at_left, at_right = places(first, U(0), row, column)
            fetch(ours, theirs, 0, left, right, at_left, at_right, 0)
            for k in range(0, DEPTH, 4 if DEPTH > 2 else 2):
                fetch(ours, theirs, 1, left, right, at_left, at_right, 1)
                add(sums, ours, theirs, 0)
                if DEPTH > 2:
                    fetch(ours, theirs, 0, left, right, at_left, at_right, 2)
                    add(sums, ours, theirs, 1)
                    fetch(ours, theirs, 1, left, right, at_left, at_right, 3)
                    add(sums, ours, theirs, 0)
                at_left, at_right = places(first, U(k + 4) % U(DEPTH), row, column)
                fetch(ours, theirs, 0, left, right, at_left, at_right, 0)
                add(sums, ours, theirs, 1)

    else:
        STEP, of_warp = fragments(precision, geometry, left_lines, right_lines, precision == "tf32" and not rounds_left)

        @device
        def compute(sums, left, right, first, thread):
            for s in range(DEPTH // STEP):
                of_warp(sums, left, right, first, U(s * STEP), thread)

    return (of_left, of_right), store, compute


@functools.cache
def multiply(kind, dtype, geometry, precision):
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
    ROOM, BUFFERS = room(precision, geometry)[0], buffers(precision, dtype, geometry)
    (place, _, _), apart = held(precision, geometry), precision != "float32"

    @device
    def run(sums, ones, on, own, now, o, row, column, begin, end):
        a, b = cuda.local.array(PASSES, scalar), cuda.local.array(PASSES, scalar)
        thread = this_thread()
        ty, tx = thread // SIDE, thread % SIDE
        left, right = own.left, own.right
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
        # A thread all of whose results lie outside has nothing to compute, unless its warp computes together.
        place_row, place_column = place(thread)
        turn = 0
        cuda.syncthreads()  # somebody may still read there what was before
        for start in range(begin, end + DEPTH, DEPTH):
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
                first = U((turn + 1) % BUFFERS * ROOM)
                if apart or (place_row < height - row and place_column < width - column):
                    compute(sums, left, right, first, thread)
                if kind == WEIGHTS and column == 0:
                    for k in range(tx, DEPTH, SIDE):
                        for i in range(EACH):
                            ones[i] += left[first + U(k * LINE + ty * EACH + i)]
            if BUFFERS == 1:
                cuda.syncthreads()
            if start < end:
                store(a, b, left, right, U(turn * ROOM), thread)
            cuda.syncthreads()
            turn = (turn + 1) % BUFFERS

    return run
