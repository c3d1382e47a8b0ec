"""Tensor-core products of two tiles in shared memory, and the layouts of fragments and shared memory.

A warp-level mma instruction adds a (16, STEP) matrix times a (STEP, 8) matrix to a (16, 8) matrix. Each thread holds a
fragment of the three matrices in registers. With g = lane // 4 and t = lane % 4, the fragments are:

- left matrix: rows g and g + 8, inner steps W t and W t + HALF;
- right matrix: column g, the same inner steps;
- result: rows g and g + 8, columns 2 t and 2 t + 1

(PTX ISA, "Matrix Fragments for mma.m16n8k8" and "... mma.m16n8k16"). A 32-bit word holds W inner steps: one of tf32,
with 10 mantissa bits instead of float32's 23, or two of bf16, with 7 mantissa bits. Products and sums are float32, but
the cores truncate sums instead of rounding them.

"bf16x6" reaches float32 accuracy with six bf16 products. A factor is split into three bf16 numbers, a = a0 + a1 + a2,
each with the 8 leading bits of the remainder. Three of the nine products of a and b are omitted; they are below
2^-22 a b. The six others are accumulated over STEP inner steps, the smallest first. The result is added to the thread's
accumulator with a rounding addition. (Three tf32 products suffice for long sums, but lose 2 bits in a single product.)
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numba
import numpy as np

from .assembly import instruction, load2
from .jit import device
from .runtime import SIMULATED, cuda

__all__ = ["SmemLayout", "fragments", "fragment_layout", "smem_layout", "placing", "words"]

WARP = 32
words = {"tf32": 1, "bf16": 2, "bf16x6": 2}  # inner steps in a word
U = np.uint64


def _multiply(kind: str, word: str, shape: str) -> object:
    code = f"mma.sync.aligned.{shape}.row.col.f32.{kind}.{kind}.f32 "
    code += "{$0, $1, $2, $3}, {$4, $5, $6, $7}, {$8, $9}, {$10, $11, $12, $13};"
    # The instruction must not be moved: all threads of the warp execute it together.
    constraints = ",".join(["=f"] * 4 + ["r"] * 6 + ["f"] * 4)
    return instruction(code, constraints, (word,) * 6 + ("float32",) * 4, ("float32",) * 4, False)


if not SIMULATED:
    multiply_tf32 = _multiply("tf32", "bits", "m16n8k8")
    multiply_bf16 = _multiply("bf16", "uint32", "m16n8k16")
    # Round to nearest; NaN and infinity are preserved. Without this conversion, mma truncates its operands.
    round_tf32 = instruction("cvt.rna.tf32.f32 $0, $1;", "=r,f", ("float32",), ("bits",), True)
    # The second of two inner steps goes to the upper half of the word.
    pack_bf16 = instruction("cvt.rn.bf16x2.f32 $0, $2, $1;", "=r,f,f", ("float32", "float32"), ("uint32",), True)
    # Unpack the lower or the upper half of a word to float32.
    low_bf16 = instruction("shl.b32 $0, $1, 16;", "=f,r", ("uint32",), ("float32",), True)
    high_bf16 = instruction("and.b32 $0, $1, 0xffff0000;", "=f,r", ("uint32",), ("float32",), True)


class SmemLayout(NamedTuple):
    """Layout of a slice in shared memory, with a swizzle.

    Element (row, k), with the row or column ``row`` of the result and the inner step k, is at index
    (row * across + k * inner) ^ turn(row, k). The swizzle ``turn`` maps simultaneous accesses of several threads to
    different banks.
    """

    across: int
    inner: int
    turn: Any


@functools.cache
def smem_layout(dtype, precision, geometry, along_inner):
    """Return the `SmemLayout` of a slice; it keeps the storage order of the matrix.

    ``along_inner`` states whether the rows of the matrix run along the inner dimension. Copies are 16 bytes wide, and
    eight of them cover all 32 banks. For FMAs, a thread also loads 16 bytes at once, along the inner dimension, from
    four adjacent rows; the swizzle puts the rows of the next thread into other banks. On tensor cores, the threads of a
    warp load single words, from eight rows and four inner steps.
    """
    tile, depth = geometry.tile, geometry.depth
    some = 16 // np.dtype(dtype).itemsize
    none = device(lambda row, k: U(0))
    across, inner = (depth, 1) if along_inner else (1, tile)
    if depth % some or tile % (8 * some) and precision == "float32":  # small tiles, for simulation only
        return SmemLayout(across, inner, none)
    if precision == "float32":
        return SmemLayout(across, inner, device(lambda row, k: row // U(4) % U(8) * U(some)) if along_inner else none)
    word = words[precision]
    if along_inner:
        return SmemLayout(across, inner, device(lambda row, k: row // U(2) % U(4 // word) * U(4 * word)))
    return SmemLayout(across, inner, device(lambda row, k: k // U(word) % U(4) * U(8) % U(tile)))


def placing(its):
    """Return f(row, k) -> the index of an element in a `SmemLayout`; both arguments are unsigned."""
    across, inner, turn = its
    return device(lambda row, k: (row * U(across) + k * U(inner)) ^ turn(row, k))


@functools.cache
def fragment_layout(precision, geometry):
    """Return (position_of, down, along), the layout of a thread's accumulators in a tile of the result.

    position_of(thread) is the (row, column) of sums[0, 0]. sums[i, j] is ``down(i)`` rows below and ``along(j)``
    columns to the right.
    """
    side, each = geometry.side, geometry.each
    if precision == "float32":
        # A thread holds groups of four adjacent elements, one vector load each, and groups are half a tile apart: with
        # eight adjacent elements, two threads would load from the same banks. A warp covers 4 x 8 threads because these
        # share more operands than two rows of 16.
        four, across = min(each, 4), 8 if side == 16 else side
        down = WARP // across if side == 16 else side

        @device
        def position_of(thread):
            part, lane = thread // (down * across), thread % (down * across)
            i, j = part // (side // across) * down + lane // across, part % (side // across) * across + lane % across
            return i * four, j * four

        far = device(lambda i: i // four * four * side + i % four)
        return position_of, far, far
    # side / 8 warps cover the rows and side / 4 the columns; each has each / 2 fragments in both directions.
    along, rows, columns = side // 4, 8 * each, 4 * each
    assert side % 8 == 0 and each % 2 == 0 and side * side % WARP == 0

    @device
    def place_in_warp(thread):
        warp, lane = thread // WARP, thread % WARP
        return warp // along * rows + lane // 4, warp % along * columns + 2 * (lane % 4)

    return place_in_warp, device(lambda i: 8 * i), device(lambda j: 8 * (j // 2) + j % 2)


@functools.cache
def loading(precision):
    """Return f(into, e, f, shared, at, further, next_step, turn) that loads one word of a fragment.

    The word starts at index ``at + further``, swizzled by ``turn``; its second inner step is ``next_step`` elements
    further. The function stores the word, or the words of its bf16 parts, in into[e, f, :].
    """

    @device
    def swizzle(at, further, turn):
        """Return the swizzled index; swizzles are below 32, so multiples of 32 are added outside of the xor."""
        return ((at + U(further & 31)) ^ turn) + U(further & ~31)

    @device
    def load_one(into, e, f, shared, at, further, next_step, turn):
        into[e, f, 0] = round_tf32(shared[swizzle(at, further, turn)])

    @device
    def two(shared, at, further, next_step, turn):
        if next_step == 1:  # adjacent: one vector load
            return load2(shared, swizzle(at, further, turn))
        return shared[swizzle(at, further, turn)], shared[swizzle(at, further + next_step, turn)]

    @device
    def load_two(into, e, f, shared, at, further, next_step, turn):
        low, high = two(shared, at, further, next_step, turn)
        into[e, f, 0] = pack_bf16(low, high)

    @device
    def load_three_times_two(into, e, f, shared, at, further, next_step, turn):
        low, high = two(shared, at, further, next_step, turn)
        for p in range(3):
            word = pack_bf16(low, high)
            into[e, f, p] = word
            low, high = low - low_bf16(word), high - high_bf16(word)  # exact, as the word has the leading bits

    return {"tf32": load_one, "bf16": load_two, "bf16x6": load_three_times_two}[precision]


@functools.cache
def fragments(precision, geometry, left_lines, right_lines):
    """Return (STEP, f): f(sums, left, right, begin, k, thread) accumulates inner steps k .. k + STEP.

    The slices begin at element ``begin`` of ``left`` and ``right``.
    """
    W, PLANES = words[precision], 3 if precision == "bf16x6" else 1
    STEP, HALF, COUNT = 8 * W, 4 * W, geometry.each // 2
    # All fragments of the right slice are in registers, since they are half as large as those of the left slice, of
    # which AT_ONCE are loaded at a time. The six products of a fragment depend on each other; four fragments are
    # interleaved to hide the latency.
    AT_ONCE = max(1, min(COUNT, 4 // COUNT)) if PLANES == 3 else 1
    HEIGHT, WIDTH = 2 * AT_ONCE, 2 * COUNT
    # For wide tiles, ptxas interleaves fewer fragments to save registers; a separate accumulator for the three smallest
    # products shortens the dependency chains.
    APART = COUNT > 2
    along, rows, columns = geometry.side // 4, 8 * geometry.each, 4 * geometry.each
    (LA, LK, left_turn), (RA, RK, right_turn) = left_lines, right_lines
    assert geometry.depth % STEP == 0 and COUNT % AT_ONCE == 0
    scalar = numba.float32 if W == 1 else numba.uint32
    load, zero = loading(precision), np.float32(0)

    @device
    def multiply(a, i, p, b, j, q, c, m, n):
        """Add bf16 or tf32 part p of fragment a[i] times part q of fragment b[j] to the fragment of c at (m, n)."""
        if W == 1:
            c[m, n], c[m, n + 1], c[m + 1, n], c[m + 1, n + 1] = multiply_tf32(
                a[i, 0, p], a[i, 1, p], a[i, 2, p], a[i, 3, p], b[j, 0, q], b[j, 1, q],
                c[m, n], c[m, n + 1], c[m + 1, n], c[m + 1, n + 1],
            )  # fmt: skip
        else:
            c[m, n], c[m, n + 1], c[m + 1, n], c[m + 1, n + 1] = multiply_bf16(
                a[i, 0, p], a[i, 1, p], a[i, 2, p], a[i, 3, p], b[j, 0, q], b[j, 1, q],
                c[m, n], c[m, n + 1], c[m + 1, n], c[m + 1, n + 1],
            )  # fmt: skip

    @device
    def one_of_six(a, p, b, q, c):
        for i in range(AT_ONCE):
            for j in range(COUNT):
                multiply(a, i, p, b, j, q, c, 2 * i, 2 * j)

    @device
    def multiply_all(a, b, sums, top):
        """Accumulate the products of all fragments in a and b; the first row of the result is sums[top]."""
        if PLANES == 1:
            for j in range(COUNT):
                multiply(a, 0, 0, b, j, 0, sums, top, 2 * j)
        else:
            c = d = cuda.local.array((HEIGHT, WIDTH), numba.float32)
            if APART:
                d = cuda.local.array((HEIGHT, WIDTH), numba.float32)
            for m in range(HEIGHT):
                for n in range(WIDTH):
                    c[m, n] = zero
                    d[m, n] = zero
            one_of_six(a, 2, b, 0, c)
            one_of_six(a, 1, b, 1, c)
            one_of_six(a, 0, b, 2, c)
            one_of_six(a, 1, b, 0, d)
            one_of_six(a, 0, b, 1, d)
            one_of_six(a, 0, b, 0, d)
            for m in range(HEIGHT):
                for n in range(WIDTH):
                    sums[top + m, n] += c[m, n] + d[m, n] if APART else d[m, n]

    @device
    def step(sums, left, right, begin, k, thread):
        a, b = cuda.local.array((AT_ONCE, 4, PLANES), scalar), cuda.local.array((COUNT, 2, PLANES), scalar)
        warp, g, t = thread // WARP, thread % WARP // 4, thread % 4
        row, column = U(warp // along * rows + g), U(warp % along * columns + g)
        first = k + U(W * t)
        # One swizzle holds for all rows of a thread, eight apart, and for its inner steps, four words apart.
        turn = right_turn(column, first)
        at = begin + column * U(RA) + first * U(RK)
        for j in range(COUNT):
            load(b, j, 0, right, at, 8 * j * RA, RK, turn)
            load(b, j, 1, right, at, 8 * j * RA + HALF * RK, RK, turn)
        turn = left_turn(row, first)
        at = begin + row * U(LA) + first * U(LK)
        for i in range(0, COUNT, AT_ONCE):
            for q in range(AT_ONCE):
                load(a, q, 0, left, at, 16 * (i + q) * LA, LK, turn)
                load(a, q, 1, left, at, (16 * (i + q) + 8) * LA, LK, turn)
                load(a, q, 2, left, at, 16 * (i + q) * LA + HALF * LK, LK, turn)
                load(a, q, 3, left, at, (16 * (i + q) + 8) * LA + HALF * LK, LK, turn)
            multiply_all(a, b, sums, 2 * i)

    return STEP, step
