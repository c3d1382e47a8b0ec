"""Mainloop of the three products of a Linear layer, one tile of the result per thread block.

A block has SIDE x SIDE threads, in one dimension. Each thread keeps EACH x EACH accumulators in registers. A slice is
DEPTH steps of the inner dimension. Async copies load slices to shared memory in a multistage pipeline: later slices are
in flight while the block computes with the current one. Each accumulator is one chain of fused multiply-adds in
ascending order.

Array indices are unsigned, because Numba checks each signed index for wraparound. All terms of an index are unsigned,
because the sum of a signed and an unsigned integer is a float64 in Numba.
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
    """Arrays of a run of steps, see `steps`; the parameter ``on`` of device functions."""

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
    """Shared memory of a block; the parameter ``smem`` of device functions."""

    left: Any  # slices of the left matrix in the layout of `tensor.smem_layout`; then staged results
    right: Any
    square: Any  # (SIDE, SIDE)
    losses: Any  # losses of a stretch's rows
    doubles: Any  # one float64 per thread
    count: Any  # one int64, broadcast to the block


class StepContext(NamedTuple):
    """Values shared by all jobs of a step."""

    first: Any  # index of the batch's first row in the order
    rows: Any
    normalizer: Any
    penalty: Any
    h: Any  # offset of the step's numbers in hyperparameters
    s: Any  # index of the step in the launch
    clip: Any  # factor of the gradients
    x: Any  # offset in work of the batch's scaled features
    next_first: Any  # index of the next batch's first row in the order
    next_rows: Any  # 0 in the last step
    next_x: Any


class Inputs(NamedTuple):
    """Input of an operation: offset in work and number of columns."""

    x: Any
    width: Any


class Geometry(NamedTuple):
    """Tile geometry: threads per side of a tile, accumulators per side of a thread, inner steps of a slice."""

    side: int
    each: int
    depth: int

    @property
    def tile(self) -> int:
        """Number of rows, and of columns, of a tile."""
        return self.side * self.each

    @property
    def threads(self) -> int:
        """Number of threads of a block."""
        return self.side * self.side


U = np.uint64


@device
def this_thread():
    """Return the thread's index in its block, opaque to the optimizer.

    Otherwise the compiler hoists all values derived from the index, for all kinds of tiles, to the start of the kernel
    and runs out of registers.
    """
    return cuda.threadIdx.x


@device
def so_many_threads():
    """Return the number of threads of the block, opaque to the optimizer, which prevents unrolling of loops."""
    return cuda.blockDim.x


if not SIMULATED:
    # Async copies of 16, 8 or 4 bytes to shared memory; they need compute capability 8.0.
    copy16, copy8, copy4 = copying(16), copying(8), copying(4)
    commit = instruction("cp.async.commit_group;", "~{memory}", (), (), False)
    # Wait until at most 2, or 0, groups of copies are pending.
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
    """Return the number of elements per copy: those of 16 bytes if the geometry permits it, else 1."""
    some = 16 // np.dtype(dtype).itemsize
    fits = geometry.tile % some == 0 and geometry.depth % some == 0
    return some if fits and geometry.tile * geometry.depth % (some * geometry.threads) == 0 else 1


def buffers(dtype, geometry):
    """Return the number of pipeline stages, the slices of both matrices that fit in a block's shared memory.

    One stage less is in flight at a time.
    """
    size = 2 * geometry.tile * geometry.depth * np.dtype(dtype).itemsize
    return 4 if 4 * size <= _SHARED else 2


_SHARED = 36 << 10  # bytes for slices, out of 48 KiB per block; the rest holds the tables and the sums


def staged(precision, dtype, geometry):
    """Return (thread rows per pass, row pitch in elements) for staging results in the buffer of the left slices."""
    pitch, room = geometry.tile + (4 if precision == "float32" else 8), buffers(dtype, geometry) * geometry.depth
    rows = geometry.side
    while rows * geometry.each * pitch > room * geometry.tile:
        rows //= 2
    assert rows > 0
    return rows, pitch


# 64 x 64 and 128 x 128. Wide tiles halve the shared-memory loads per result but need large matrices.
NARROW, WIDE_TILES = Geometry(16, 4, 16), Geometry(16, 8, 16)


@device
def inputs_of(on, now, o):
    return Inputs(now.x if on.ops[o, X] == DATA else on.ops[o, X], on.ops[o, IN])


@device
def features(on, inputs, m, k):
    """Return element (m, k) of an operation's input."""
    return on.work[U(inputs.x + m * inputs.width + k)]


@device
def up(a, b):
    """Return a / b, rounded up."""
    return (a + b - 1) // b


@device
def quotient(a, b):
    """Return a // b for numbers below 2^32; a signed 64-bit division is a chain of 70 dependent instructions."""
    return numba.int64(_divide(np.uint32(a), np.uint32(b)))


class Source(NamedTuple):
    """Source and destination addresses of a thread's share of the slices of a matrix."""

    base: Any  # index of the first slice
    at: Any  # index of the thread's first element of the first slice
    to: Any  # index in shared memory, relative to the start of a slice
    r: Any  # row and column of that element in a slice, in the matrix's storage order
    c: Any


@functools.cache
def tile_loader(dtype, precision, geometry, along_inner, async_copy):
    """Return (begin, load_tile_async), which copy slices of a matrix to shared memory.

    The destination has the layout of `tensor.smem_layout`. ``along_inner`` states whether the rows of the matrix run
    along the inner dimension. begin(base, stride, thread) is a `Source`.
    load_tile_async(its, shared, first, source, skip, stride, rows, columns, thread) copies the slice that begins
    ``skip`` elements after the first slice to shared[first ..]. Element (r, c) of the slice is
    source[base + skip + r * stride + c], or zero if r >= rows or c >= columns. Without ``async_copy``, the copy is
    synchronous.
    """
    TILE, DEPTH, THREADS, SIZE = geometry.tile, geometry.depth, geometry.threads, np.dtype(dtype).itemsize
    SPAN, SOME = DEPTH if along_inner else TILE, vector_of(dtype, geometry)
    its_layout = smem_layout(dtype, precision, geometry, along_inner)
    place_of = placing(its_layout)
    PASSES, IN_ROW = TILE * DEPTH // (SOME * THREADS), SPAN // SOME
    assert THREADS % IN_ROW == 0
    DOWN = THREADS // IN_ROW  # rows to a thread's next copy; most swizzles are periodic in this distance
    STRIDE = its_layout.across if along_inner else its_layout.inner
    SAME = DOWN % (32 if precision == "float32" and along_inner else 8) == 0
    zero = np.dtype(dtype).type(0)

    @device
    def offset_of(r, c):
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
        """Copy element by element a matrix whose rows are not aligned to 16 bytes."""
        number = thread
        while number < TILE * DEPTH:
            e = U(number)
            r, c = e // U(SPAN), e % U(SPAN)
            count = 1 if numba.int64(r) < rows and numba.int64(c) < columns else 0
            copy_one(shared, first + offset_of(r, c), source, at + r * stride + c, count)
            number += so_many_threads()

    @device
    def begin(base, stride, thread):
        r, c = U(thread) // U(IN_ROW), U(thread) % U(IN_ROW) * U(SOME)
        return Source(base, base + r * stride + c, offset_of(r, c), numba.int64(r), numba.int64(c))

    @device
    def load_tile_async(its, shared, first, source, skip, stride, rows, columns, thread):
        if SOME == 1 or stride % U(SOME) != U(0):
            one_by_one(shared, first, source, its.base + skip, stride, rows, columns, thread)
        else:
            some, rows, at = max(0, min(columns - its.c, SOME)), rows - its.r, its.at + skip
            for p in range(PASSES):
                to = its.to + U(p * DOWN * STRIDE)
                if not SAME:  # small tiles, for simulation only
                    to = offset_of(U(its.r) + U(p * DOWN), U(its.c))
                copy_some(shared, first + to, source, at + U(p * DOWN) * stride, some if rows > p * DOWN else 0)

    return begin, load_tile_async


@functools.cache
def computing(kind, dtype, geometry, precision):
    """Return f(sums, left, right, first, thread) that accumulates the products of the slices at index ``first``.

    A thread loads SOME inner steps of a row at once if the matrix runs along the inner dimension, else rows of one
    inner step.
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
    position_of = fragment_layout(precision, geometry)[0]
    FOUR = min(EACH, 4)
    _, _, turn = smem_layout(dtype, precision, geometry, True)
    LINE = 8 * SOME - 1  # mask of a 128-byte line; a swizzle does not leave the line
    at_once = SOME == 4

    @device
    def along(into, e, shared, first, row, k):
        """Load inner steps k .. k + SOME of the e-th row of a thread, whose first row is ``row``.

        The four adjacent rows, and those half a tile further, share one swizzle. It is computed once; an xor flips the
        bits in which their addresses differ.
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
        """Load a thread's rows at inner step k + q."""
        at = first + (k + U(q)) * U(TILE) + row
        for e in range(EACH):
            into[e, q] = shared[at + U(e // FOUR * FOUR * SIDE + e % FOUR)]

    @device
    def some_steps(sums, ours, theirs, left, right, first, row, column, k):
        """Accumulate inner steps k .. k + SOME."""
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
        i, j = position_of(thread)
        row, column = U(i), U(j)
        if EACH < 8 and DEPTH == 4 * SOME:  # unrolled: loads are issued early, with constant offsets
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
    """Return the device function that computes a thread's accumulators ``sums (EACH, EACH)`` of a tile of a product.

    `tensor.fragment_layout` defines the position of the accumulators in the tile. The product is x Wᵀ for FORWARD, G W
    for DELTA and Gᵀ x for WEIGHTS, over inner steps begin .. end. ``a`` and ``b`` are flat; the tile's first row or
    column begins at ``a_at`` and ``b_at``. The result has ``height`` rows and ``width`` columns from the tile's first
    element on. If ``with_ones`` is set, WEIGHTS also computes ``ones (EACH,)``, a thread's partial sums of Gᵀ 1, the
    gradient of the bias: sums over every SIDE-th inner step, for rows SIDE apart.
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
    (position_of, _, _), apart = fragment_layout(precision, geometry), precision != "float32"

    @device
    def run(
        sums, ones, left, right, a, a_at, a_stride, b, b_at, b_stride, height, width, begin, end, with_ones, thread
    ):  # fmt: skip
        ty, tx = thread // SIDE, thread % SIDE
        for i in range(EACH):
            ones[i] = zero
            for j in range(EACH):
                sums[i, j] = zero
        # A thread skips the computation if all of its accumulators are out of bounds, except on tensor cores, where mma
        # needs all threads of the warp.
        first_row, first_column = position_of(thread)
        has_some = apart or (first_row < height and first_column < width)
        of_left, of_right = left_begin(a_at, a_stride, thread), right_begin(b_at, b_stride, thread)
        slot = U(0)
        cuda.syncthreads()  # other threads may still read the previous contents
        for start in range(begin - AHEAD, end, DEPTH):
            if start >= begin:
                if async_copy:
                    if BUFFERS == 2:
                        wait0()
                    else:
                        wait2()
                cuda.syncthreads()  # this slice is complete, and the slice before is no longer read
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
                    # Adjacent threads take adjacent rows, which lie in different banks.
                    for k in range(ty, DEPTH, SIDE):
                        for i in range(EACH):
                            ones[i] += left[first + place_of(U(tx + i * SIDE), U(k))]

    return run
