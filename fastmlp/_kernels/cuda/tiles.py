"""The three products of a layer, a tile of the result at a time, as a block of the persistent kernel makes them.

A block is SIDE x SIDE threads in one row; each keeps EACH x EACH sums in registers. Of the inner dimension DEPTH steps
at a time, a slice, are copied to shared memory by instructions that nobody waits for until several later: the slices
that follow are on their way while one is computed with. A sum is one chain of fused multiply-adds in ascending order.
Places in arrays are unsigned: of a signed one the compiler has to see whether it counts from the end, for every
element. All of a sum are, as one that is signed beside one that is not makes a float64.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numba
import numpy as np

from .assembly import copying, instruction, load4
from .jit import device
from .runtime import SIMULATED, cuda
from .table import DATA, DELTA, FORWARD, IN, WEIGHTS, X
from .tensor import fragment_layout, fragments, placing, smem_layout

__all__ = [
    "NARROW", "WIDE_TILES", "Geometry", "Inputs", "Memory", "StepContext", "Scratch", "mainloop", "buffers", "features",
    "inputs_of", "quotient", "staged", "this_thread", "up", "vector_of",
]  # fmt: skip


class Memory(NamedTuple):
    """The arrays of a run of steps, see `steps`; ``on`` in all device functions."""

    data: Any
    order: Any
    labels: Any
    targets: Any
    row_weights: Any
    hyperparameters: Any
    clip_params: Any
    ops: Any
    numbers: Any
    jobs: Any
    run_params: Any
    work: Any
    weights: Any
    sums: Any
    parts: Any
    counters: Any
    shares: Any
    shifts: Any
    deviations: Any


class Scratch(NamedTuple):
    """A block's shared memory: ``smem`` in all device functions."""

    left: Any  # slices of the left matrix, each as `tensor.smem_layout` says; then results on their way to memory
    right: Any
    square: Any  # (SIDE, SIDE)
    losses: Any  # of the rows of a stretch
    doubles: Any  # one a thread
    count: Any  # one number, for all to see


class StepContext(NamedTuple):
    """What is the same for all of a step's jobs."""

    first: Any  # the batch's place in the order
    rows: Any
    normalizer: Any
    penalty: Any
    h: Any  # the place of the step's numbers in hyperparameters
    s: Any  # the step's number in the launch
    clip: Any  # what gradients are multiplied by
    x: Any  # where in work the batch's features are, scaled
    next_first: Any  # the next batch's place in the order
    next_rows: Any  # 0 after the last
    next_x: Any


class Inputs(NamedTuple):
    """What an operation takes in: where in work, and how wide."""

    x: Any
    width: Any


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
    def threads(self) -> int:
        """Of a block."""
        return self.side * self.side


U = np.uint64


@device
def this_thread():
    """A thread's number in its block, as if it might change: what follows from it would else be computed once for all
    kinds of tiles, at a kernel's begin, and kept in more registers than there are."""
    return cuda.threadIdx.x


@device
def so_many_threads():
    """Of a block, as if they might change: a loop with such steps is not written out several times."""
    return cuda.blockDim.x


if not SIMULATED:
    # 16, 8 or 4 bytes to shared memory, from compute capability 8.0 on.
    copy16, copy8, copy4 = copying(16), copying(8), copying(4)
    commit = instruction("cp.async.commit_group;", "~{memory}", (), (), False)
    # Until so many groups are left.
    wait2 = instruction("cp.async.wait_group 2;", "~{memory}", (), (), False)
    wait0 = instruction("cp.async.wait_group 0;", "~{memory}", (), (), False)
    _number = instruction("mov.u32 $0, %tid.x;", "=r", (), ("int32",), False)
    _threads = instruction("mov.b32 $0, %ntid.x;", "=r", (), ("int32",), False)
    _divide = instruction("div.u32 $0, $1, $2;", "=r,r,r", ("uint32", "uint32"), ("uint32",), True)

    @device
    def this_thread():
        return numba.int64(_number())

    @device
    def so_many_threads():
        return numba.int64(_threads())


def vector_of(dtype, geometry):
    """How many elements are copied at once: 16 bytes, where a slice is that wide."""
    some = 16 // np.dtype(dtype).itemsize
    fits = geometry.tile % some == 0 and geometry.depth % some == 0
    return some if fits and geometry.tile * geometry.depth % (some * geometry.threads) == 0 else 1


def buffers(dtype, geometry):
    """How many slices of both matrices have room in a block's shared memory: as many are on their way, less one."""
    size = 2 * geometry.tile * geometry.depth * np.dtype(dtype).itemsize
    return 4 if 4 * size <= _SHARED else 2


_SHARED = 36 << 10  # bytes of a block's 48 KiB that are not the tables' and the sums'


def staged(precision, dtype, geometry):
    """(rows of threads, from a row to the next) of results on their way to memory, which go through the left slices."""
    pitch, room = geometry.tile + (4 if precision == "float32" else 8), buffers(dtype, geometry) * geometry.depth
    rows = geometry.side
    while rows * geometry.each * pitch > room * geometry.tile:
        rows //= 2
    assert rows > 0
    return rows, pitch


# 64 x 64 and 128 x 128. The wide one reads shared memory half as often for each result, and needs large matrices.
NARROW, WIDE_TILES = Geometry(16, 4, 16), Geometry(16, 8, 16)


@device
def inputs_of(on, now, o):
    return Inputs(now.x if on.ops[o, X] == DATA else on.ops[o, X], on.ops[o, IN])


@device
def features(on, inputs, m, k):
    """Element (m, k) of what an operation takes in."""
    return on.work[U(inputs.x + m * inputs.width + k)]


@device
def up(a, b):
    """a / b, rounded up."""
    return (a + b - 1) // b


@device
def quotient(a, b):
    """a // b of numbers below 2^32: of 64 bits, with signs, that is 70 instructions, each waiting for the last."""
    return numba.int64(_divide(np.uint32(a), np.uint32(b)))


class Source(NamedTuple):
    """Where a thread's share of the slices of a matrix comes from, and where it goes."""

    base: Any  # of the first slice
    at: Any  # of the thread's first element, in that slice
    to: Any  # in shared memory, from where a slice begins
    r: Any  # row and column of that element in a slice, as the matrix lies
    c: Any


@functools.cache
def tile_loader(dtype, precision, geometry, along_inner, async_copy):
    """(begin, load_tile_async): have slices of a matrix copied to shared memory, as `tensor.smem_layout` says.

    The matrix is ``along_inner`` where its rows lie along the inner dimension; element (r, c) of the slice is
    source[base + r * stride + c], or zero from so many rows or columns on. begin(base, stride, thread) is a `Source`;
    load_tile_async(its, shared, first, source, skip, stride, rows, columns, thread) copies the slice that begins
    ``skip`` elements after the first to shared[first ..]: ``async_copy``, when somebody waits for it, or at once.
    """
    TILE, DEPTH, THREADS, SIZE = geometry.tile, geometry.depth, geometry.threads, np.dtype(dtype).itemsize
    SPAN, SOME = DEPTH if along_inner else TILE, vector_of(dtype, geometry)
    its_layout = smem_layout(dtype, precision, geometry, along_inner)
    place_of = placing(its_layout)
    PASSES, IN_ROW = TILE * DEPTH // (SOME * THREADS), SPAN // SOME
    assert THREADS % IN_ROW == 0
    DOWN = THREADS // IN_ROW  # rows to a thread's next place: so far off a turn is mostly the same
    STRIDE = its_layout.across if along_inner else its_layout.inner
    SAME = DOWN % (32 if precision == "float32" and along_inner else 8) == 0
    zero = np.dtype(dtype).type(0)

    @device
    def place(r, c):
        return place_of(r, c) if along_inner else place_of(c, r)

    if async_copy:

        @device
        def copy_some(shared, to, source, at, count):
            copy16(shared, to, source, at, count * SIZE)

        @device
        def copy_one(shared, to, source, at, count):
            if SIZE == 4:
                copy4(shared, to, source, at, count * SIZE)
            else:
                copy8(shared, to, source, at, count * SIZE)

    else:

        @device
        def copy_some(shared, to, source, at, count):
            for i in range(SOME):
                shared[to + U(i)] = source[at + U(i)] if i < count else zero

        @device
        def copy_one(shared, to, source, at, count):
            shared[to] = source[at] if count > 0 else zero

    @device
    def one_by_one(shared, first, source, at, stride, rows, columns, thread):
        """Of a matrix whose rows do not begin at multiples of 16 bytes."""
        number = thread
        while number < TILE * DEPTH:
            e = U(number)
            r, c = e // U(SPAN), e % U(SPAN)
            count = 1 if numba.int64(r) < rows and numba.int64(c) < columns else 0
            copy_one(shared, first + place(r, c), source, at + r * stride + c, count)
            number += so_many_threads()

    @device
    def begin(base, stride, thread):
        r, c = U(thread) // U(IN_ROW), U(thread) % U(IN_ROW) * U(SOME)
        return Source(base, base + r * stride + c, place(r, c), numba.int64(r), numba.int64(c))

    @device
    def load_tile_async(its, shared, first, source, skip, stride, rows, columns, thread):
        if SOME == 1 or stride % U(SOME) != U(0):
            one_by_one(shared, first, source, its.base + skip, stride, rows, columns, thread)
        else:
            some, rows, at = max(0, min(columns - its.c, SOME)), rows - its.r, its.at + skip
            for p in range(PASSES):
                to = its.to + U(p * DOWN * STRIDE)
                if not SAME:  # in small tiles, which are simulated
                    to = place(U(its.r) + U(p * DOWN), U(its.c))
                copy_some(shared, first + to, source, at + U(p * DOWN) * stride, some if rows > p * DOWN else 0)

    return begin, load_tile_async


@functools.cache
def computing(kind, dtype, geometry, precision):
    """f(sums, left, right, first, thread): add a slice's products, which begins at shared[first], to a thread's sums.

    Of a matrix that lies along the inner dimension SOME inner steps of a row are read at once, of another one SOME rows
    of an inner step.
    """
    EACH, DEPTH, TILE, SIDE = geometry.each, geometry.depth, geometry.tile, geometry.side
    left_inner, right_inner = kind in (FORWARD, DELTA), kind == FORWARD
    if precision != "float32":
        STEP, of_warp = fragments(
            precision,
            geometry,
            *(smem_layout(dtype, precision, geometry, inner) for inner in (left_inner, right_inner)),
        )

        @device
        def on_tensor_cores(sums, left, right, first, thread):
            for s in range(DEPTH // STEP):
                of_warp(sums, left, right, first, U(s * STEP), thread)

        return on_tensor_cores

    SOME, scalar = vector_of(dtype, geometry), numba.from_dtype(np.dtype(dtype))
    place = fragment_layout(precision, geometry)[0]
    FOUR = min(EACH, 4)
    _, _, turn = smem_layout(dtype, precision, geometry, True)
    LINE = 8 * SOME - 1  # 128 bytes: what is turned stays in them
    at_once = SOME == 4

    @device
    def along(into, e, shared, first, row, k):
        """SOME inner steps from k on of the e-th of a thread's rows, the first being ``row``.

        The four that lie side by side, and those half a tile on, have one turn: it is found once, and bits that
        differ are turned over.
        """
        beside = e // FOUR * FOUR * SIDE * DEPTH + e % FOUR * DEPTH
        at = (((first + row * U(DEPTH)) ^ turn(row, k)) ^ (k ^ U(beside & LINE))) + U(beside & ~LINE)
        if at_once:
            into[e, 0], into[e, 1], into[e, 2], into[e, 3] = load4(shared, at)
        else:
            for q in range(SOME):
                into[e, q] = shared[at + U(q)]

    @device
    def across(into, shared, first, row, k, q):
        """A thread's rows at inner step k + q."""
        at = first + (k + U(q)) * U(TILE) + row
        for e in range(EACH):
            into[e, q] = shared[at + U(e // FOUR * FOUR * SIDE + e % FOUR)]

    @device
    def some_steps(sums, ours, theirs, left, right, first, row, column, k):
        """SOME inner steps from k on."""
        if left_inner:
            for e in range(EACH):
                along(ours, e, left, first, row, k)
        if right_inner:
            for e in range(EACH):
                along(theirs, e, right, first, column, k)
                for q in range(SOME):
                    for i in range(EACH):
                        sums[i, e] += ours[i, q] * theirs[e, q]
        else:
            for q in range(SOME):
                if not left_inner:
                    across(ours, left, first, row, k, q)
                across(theirs, right, first, column, k, q)
                for i in range(EACH):
                    for j in range(EACH):
                        sums[i, j] += ours[i, q] * theirs[j, q]

    @device
    def run(sums, left, right, first, thread):
        ours, theirs = cuda.local.array((EACH, SOME), scalar), cuda.local.array((EACH, SOME), scalar)
        i, j = place(thread)
        row, column = U(i), U(j)
        if EACH < 8 and DEPTH == 4 * SOME:  # no loop: what is read next is on its way in time, and its place known
            some_steps(sums, ours, theirs, left, right, first, row, column, U(0))
            some_steps(sums, ours, theirs, left, right, first, row, column, U(SOME))
            some_steps(sums, ours, theirs, left, right, first, row, column, U(2 * SOME))
            some_steps(sums, ours, theirs, left, right, first, row, column, U(3 * SOME))
        else:
            for step in range(DEPTH // SOME):
                some_steps(sums, ours, theirs, left, right, first, row, column, U(step * SOME))

    return run


@functools.cache
def mainloop(kind, dtype, geometry, precision, async_copy):
    """A device function that fills ``sums (EACH, EACH)`` with a thread's part of a tile of a product.

    `tensor.fragment_layout` says which part. FORWARD: x Wᵀ; DELTA: G W; WEIGHTS: Gᵀ x, of inner steps begin .. end.
    ``a`` and ``b`` are flat, ``a_at`` and ``b_at`` where the tile's first row or column begins in them; from the tile's
    first element on the result has ``height`` rows and ``width`` columns. With ``with_ones``, WEIGHTS add a thread's
    share of Gᵀ 1, the bias's gradient, to ``ones (EACH,)``: sums over every SIDE-th inner step of rows SIDE apart.
    """
    SIDE, EACH, DEPTH = geometry
    TILE, BUFFERS = geometry.tile, buffers(dtype, geometry)
    SIZE, AHEAD = TILE * DEPTH, (BUFFERS - 1) * DEPTH
    assert DEPTH % SIDE == 0
    zero = np.dtype(dtype).type(0)
    left_inner, right_inner = kind in (FORWARD, DELTA), kind == FORWARD
    (left_begin, load_left), (right_begin, load_right) = (
        tile_loader(dtype, precision, geometry, inner, async_copy) for inner in (left_inner, right_inner)
    )
    compute = computing(kind, dtype, geometry, precision)
    place_of = placing(smem_layout(dtype, precision, geometry, left_inner))
    (place, _, _), apart = fragment_layout(precision, geometry), precision != "float32"

    @device
    def run(
        sums, ones, left, right, a, a_at, a_stride, b, b_at, b_stride, height, width, begin, end, with_ones, thread
    ):  # fmt: skip
        ty, tx = thread // SIDE, thread % SIDE
        for i in range(EACH):
            ones[i] = zero
            for j in range(EACH):
                sums[i, j] = zero
        # A thread all of whose results lie outside has nothing to compute, unless its warp computes together.
        place_row, place_column = place(thread)
        has_some = apart or (place_row < height and place_column < width)
        of_left, of_right = left_begin(a_at, a_stride, thread), right_begin(b_at, b_stride, thread)
        slot = U(0)
        cuda.syncthreads()  # somebody may still read there what was before
        for start in range(begin - AHEAD, end, DEPTH):
            if start >= begin:
                if async_copy:
                    if BUFFERS == 2:
                        wait0()
                    else:
                        wait2()
                cuda.syncthreads()  # all have their part of this slice, and are done with the one before
            k = start + AHEAD
            if k < end:
                first, skip = slot * U(SIZE), U(k) if left_inner else U(k) * a_stride
                rows, columns = (height, end - k) if left_inner else (end - k, height)
                load_left(of_left, left, first, a, skip, a_stride, rows, columns, thread)
                skip = U(k) if right_inner else U(k) * b_stride
                rows, columns = (width, end - k) if right_inner else (end - k, width)
                load_right(of_right, right, first, b, skip, b_stride, rows, columns, thread)
            if async_copy:
                commit()
            slot = (slot + U(1)) % U(BUFFERS)
            if start >= begin:
                first = slot * U(SIZE)
                if has_some:
                    compute(sums, left, right, first, thread)
                if kind == WEIGHTS and with_ones:
                    # Threads side by side take rows side by side, which lie in different banks.
                    for k in range(ty, DEPTH, SIDE):
                        for i in range(EACH):
                            ones[i] += left[first + place_of(U(tx + i * SIDE), U(k))]

    return run
