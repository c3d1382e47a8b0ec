"""Products of two tiles in shared memory on tensor cores: what the 32 threads of a warp multiply together.

An instruction adds a (16, STEP) matrix times a (STEP, 8) one to a (16, 8) one, of which each thread holds some
elements in registers. With g = lane // 4 and t = lane % 4 a thread has, of the left one, rows g and g + 8 and inner
steps W t and W t + HALF; of the right one, column g and the same inner steps; of the result, rows g and g + 8, columns
2 t and 2 t + 1 (PTX ISA, "Matrix Fragments for mma.m16n8k8" and "... mma.m16n8k16"). W inner steps make a word: one of
tf32, with 10 bits of mantissa in the place of float32's 23; two of bf16, with 7. Products and sums are float32's, but
that the cores cut off what a sum has no room for, where others round.

"bf16x6" is for float32's own error, by six of these products. A factor is the sum of three of bf16, each of which takes
8 leading bits of what the ones before left: a = a0 + a1 + a2. Of the nine products of a and b three are left out, which
are below 2^-22 of a b; the six are added up from the smallest on, over STEP inner steps, and their sum is added to the
thread's by an addition that rounds. (Three products of tf32 would do for long sums, but lose 2 bits of a single one.)
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
    # Not to be moved: all threads of the warp have to be there.
    constraints = ",".join(["=f"] * 4 + ["r"] * 6 + ["f"] * 4)
    return instruction(code, constraints, (word,) * 6 + ("float32",) * 4, ("float32",) * 4, False)


if not SIMULATED:
    multiply_tf32 = _multiply("tf32", "bits", "m16n8k8")
    multiply_bf16 = _multiply("bf16", "uint32", "m16n8k16")
    # To the nearest; NaN and infinity stay. The instructions above would take the bits as they are, and cut them off.
    round_tf32 = instruction("cvt.rna.tf32.f32 $0, $1;", "=r,f", ("float32",), ("bits",), True)
    # The second of two inner steps is the upper half of the word.
    pack_bf16 = instruction("cvt.rn.bf16x2.f32 $0, $2, $1;", "=r,f,f", ("float32", "float32"), ("uint32",), True)
    # What of two inner steps is in a word, as float32.
    low_bf16 = instruction("shl.b32 $0, $1, 16;", "=f,r", ("uint32",), ("float32",), True)
    high_bf16 = instruction("and.b32 $0, $1, 0xffff0000;", "=f,r", ("uint32",), ("float32",), True)


class SmemLayout(NamedTuple):
    """How a slice lies in shared memory: element (row or column of the result, inner step k) at
    (row * across + k * inner) ^ turn(row, k).

    The turn puts what several threads read at once, or write at once, into different banks.
    """

    across: int
    inner: int
    turn: Any


@functools.cache
def smem_layout(dtype, precision, geometry, along_inner):
    """The `SmemLayout` of a slice of a matrix whose rows are ``along_inner``, or across it: it lies as in the matrix.

    16 bytes are copied at once, and eight of these have all 32 banks. For FMAs a thread reads them at once too, along
    the inner dimension of four rows side by side: those of the next thread lie in other banks. On tensor cores the
    threads of a warp read single words: of eight rows and, across, four inner steps.
    """
    tile, depth = geometry.tile, geometry.depth
    some = 16 // np.dtype(dtype).itemsize
    none = device(lambda row, k: U(0))
    across, inner = (depth, 1) if along_inner else (1, tile)
    if depth % some or tile % (8 * some) and precision == "float32":  # of small tiles, which are simulated
        return SmemLayout(across, inner, none)
    if precision == "float32":
        return SmemLayout(across, inner, device(lambda row, k: row // U(4) % U(8) * U(some)) if along_inner else none)
    word = words[precision]
    if along_inner:
        return SmemLayout(across, inner, device(lambda row, k: row // U(2) % U(4 // word) * U(4 * word)))
    return SmemLayout(across, inner, device(lambda row, k: k // U(word) % U(4) * U(8) % U(tile)))


def placing(its):
    """f(row, k): the place that `SmemLayout` give an element; both are unsigned."""
    across, inner, turn = its
    return device(lambda row, k: (row * U(across) + k * U(inner)) ^ turn(row, k))


@functools.cache
def fragment_layout(precision, geometry):
    """Which elements of a tile of the result are a thread's sums: place(thread) is (row, column) of sums[0, 0].

    sums[i, j] is ``down(i)`` rows below that, and ``along(j)`` columns beside.
    """
    side, each = geometry.side, geometry.each
    if precision == "float32":
        # Four elements at a time, which are read at once, and the next four half a tile on: eight of a thread side by
        # side would be read by two threads from the same banks. A warp is 4 x 8 threads: of what it reads, more is the
        # same for several of them than in two rows of 16.
        four, across = min(each, 4), 8 if side == 16 else side
        down = WARP // across if side == 16 else side

        @device
        def place(thread):
            part, lane = thread // (down * across), thread % (down * across)
            i, j = part // (side // across) * down + lane // across, part % (side // across) * across + lane % across
            return i * four, j * four

        far = device(lambda i: i // four * four * side + i % four)
        return place, far, far
    # Warps stand side / 8 down and side / 4 along, each with each / 2 fragments in both directions.
    along, rows, columns = side // 4, 8 * each, 4 * each
    assert side % 8 == 0 and each % 2 == 0 and side * side % WARP == 0

    @device
    def place_in_warp(thread):
        warp, lane = thread // WARP, thread % WARP
        return warp // along * rows + lane // 4, warp % along * columns + 2 * (lane % 4)

    return place_in_warp, device(lambda i: 8 * i), device(lambda j: 8 * (j // 2) + j % 2)


@functools.cache
def loading(precision):
    """f(into, e, f, shared, at, further, next_step, turn): the word of a fragment that is at ``at + further``, turned,
    and its next inner step ``next_step`` further, as the numbers into[e, f, :] that its factors are made of."""

    @device
    def swizzle(at, further, turn):
        """The place that is ``further``: no turn reaches so far as 32, and the rest is the same for many of them."""
        return ((at + U(further & 31)) ^ turn) + U(further & ~31)

    @device
    def load_one(into, e, f, shared, at, further, next_step, turn):
        into[e, f, 0] = round_tf32(shared[swizzle(at, further, turn)])

    @device
    def two(shared, at, further, next_step, turn):
        if next_step == 1:  # side by side
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
            low, high = low - low_bf16(word), high - high_bf16(word)  # exact, as the first bits are those of the word

    return {"tf32": load_one, "bf16": load_two, "bf16x6": load_three_times_two}[precision]


@functools.cache
def fragments(precision, geometry, left_lines, right_lines):
    """(STEP, f): f(sums, left, right, begin, k, thread) adds products of inner steps k .. k + STEP to a thread's sums.

    The slices begin at element ``begin``.
    """
    W, PLANES = words[precision], 3 if precision == "bf16x6" else 1
    STEP, HALF, COUNT = 8 * W, 4 * W, geometry.each // 2
    # Of the right slice all fragments are held, which are half as large; of the left one so many. An instruction that
    # waits for the one before, as the six products of a fragment do, takes as long as many: four take turns.
    AT_ONCE = max(1, min(COUNT, 4 // COUNT)) if PLANES == 3 else 1
    HEIGHT, WIDTH = 2 * AT_ONCE, 2 * COUNT
    # Of wide tiles ptxas lets fewer take turns, to save registers: there the three small ones have a sum of their own.
    APART = COUNT > 2
    along, rows, columns = geometry.side // 4, 8 * geometry.each, 4 * geometry.each
    (LA, LK, left_turn), (RA, RK, right_turn) = left_lines, right_lines
    assert geometry.depth % STEP == 0 and COUNT % AT_ONCE == 0
    scalar = numba.float32 if W == 1 else numba.uint32
    load, zero = loading(precision), np.float32(0)

    @device
    def multiply(a, i, p, b, j, q, c, m, n):
        """Fragment (m, n) of c += number p of the factors in a[i] times number q of those in b[j]."""
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
        """Adds all fragments in a times all in b, whose first is in row ``top`` of the thread's sums."""
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
        # The same for all of a thread's rows, which are eight apart, and for its inner steps, four words apart.
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
