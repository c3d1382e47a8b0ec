"""Products of two tiles in shared memory on tensor cores: what the 32 threads of a warp multiply together.

An instruction adds a (16, STEP) matrix times a (STEP, 8) one to a (16, 8) one, of which each thread holds some
elements in registers. With g = lane // 4 and t = lane % 4 a thread has, of the left one, rows g and g + 8 and inner
steps W t and W t + HALF; of the right one, column g and the same inner steps; of the result, rows g and g + 8, columns
2 t and 2 t + 1 (PTX ISA, "Matrix Fragments for mma.m16n8k8" and "... mma.m16n8k16"). W inner steps make a word: one of
tf32, with 10 bits of mantissa in the place of float32's 23; two of bf16, with 7. Products and sums are float32's.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numba
import numpy as np

from .assembly import instruction, load2
from .jit import device
from .runtime import SIMULATED, cuda

__all__ = ["Lines", "fragments", "held", "lines", "placing", "words"]

WARP = 32
words = {"tf32": 1, "bf16": 2}  # inner steps in a word
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


class Lines(NamedTuple):
    """How a slice lies in shared memory: element (row or column of the result, inner step k) at
    (row * across + k * inner) ^ turn(row, k).

    The turn puts what several threads read at once, or write at once, into different banks.
    """

    across: int
    inner: int
    turn: Any


@functools.cache
def lines(dtype, precision, geometry, along_inner):
    """The `Lines` of a slice of a matrix whose rows are ``along_inner``, or across it: it lies as in the matrix.

    16 bytes are copied at once, and eight of these have all 32 banks. For FMAs a thread reads them at once too, along
    the inner dimension of four rows side by side: those of the next thread lie in other banks. On tensor cores the
    threads of a warp read single words: of eight rows and, across, four inner steps.
    """
    tile, depth = geometry.tile, geometry.depth
    some = 16 // np.dtype(dtype).itemsize
    none = device(lambda row, k: U(0))
    across, inner = (depth, 1) if along_inner else (1, tile)
    if depth % some or tile % (8 * some) and precision == "float32":  # of small tiles, which are simulated
        return Lines(across, inner, none)
    if precision == "float32":
        return Lines(across, inner, device(lambda row, k: row // U(4) % U(8) * U(some)) if along_inner else none)
    word = words[precision]
    if along_inner:
        return Lines(across, inner, device(lambda row, k: row // U(2) % U(4 // word) * U(4 * word)))
    return Lines(across, inner, device(lambda row, k: k // U(word) % U(4) * U(8) % U(tile)))


def placing(its):
    """f(row, k): the place that `Lines` give an element; both are unsigned."""
    across, inner, turn = its
    return device(lambda row, k: (row * U(across) + k * U(inner)) ^ turn(row, k))


@functools.cache
def held(precision, geometry):
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
def fragments(precision, geometry, left_lines, right_lines):
    """(STEP, f): f(sums, left, right, begin, k, thread) adds products of inner steps k .. k + STEP to a thread's sums.

    The slices begin at element ``begin``.
    """
    W = words[precision]
    STEP, HALF, COUNT = 8 * W, 4 * W, geometry.each // 2
    along, rows, columns = geometry.side // 4, 8 * geometry.each, 4 * geometry.each
    (LA, LK, left_turn), (RA, RK, right_turn) = left_lines, right_lines
    assert geometry.depth % STEP == 0
    scalar = numba.float32 if W == 1 else numba.uint32

    @device
    def turned(at, further, turn):
        """The place that is ``further``: no turn reaches so far as 32, and the rest is the same for many of them."""
        return ((at + U(further & 31)) ^ turn) + U(further & ~31)

    if W == 2:

        @device
        def word(shared, at, further, next_step, turn):
            if next_step == 1:  # its two inner steps lie side by side
                low, high = load2(shared, turned(at, further, turn))
            else:
                low, high = shared[turned(at, further, turn)], shared[turned(at, further + next_step, turn)]
            return pack_bf16(low, high)

        @device
        def multiply(a, i, b, c, sums, m, n):
            sums[m, n], sums[m, n + 1], sums[m + 1, n], sums[m + 1, n + 1] = multiply_bf16(
                a[i, 0], a[i, 1], a[i, 2], a[i, 3], b, c, sums[m, n], sums[m, n + 1], sums[m + 1, n], sums[m + 1, n + 1]
            )

    else:

        @device
        def word(shared, at, further, next_step, turn):
            return round_tf32(shared[turned(at, further, turn)])

        @device
        def multiply(a, i, b, c, sums, m, n):
            sums[m, n], sums[m, n + 1], sums[m + 1, n], sums[m + 1, n + 1] = multiply_tf32(
                a[i, 0], a[i, 1], a[i, 2], a[i, 3], b, c, sums[m, n], sums[m, n + 1], sums[m + 1, n], sums[m + 1, n + 1]
            )

    @device
    def step(sums, left, right, begin, k, thread):
        a = cuda.local.array((COUNT, 4), scalar)
        warp, g, t = thread // WARP, thread % WARP // 4, thread % 4
        row, column = U(warp // along * rows + g), U(warp % along * columns + g)
        first = k + U(W * t)
        # The same for all of a thread's rows, which are eight apart, and for its inner steps, four words apart.
        turn = left_turn(row, first)
        at = begin + row * U(LA) + first * U(LK)
        for i in range(COUNT):
            a[i, 0] = word(left, at, 16 * i * LA, LK, turn)
            a[i, 1] = word(left, at, (16 * i + 8) * LA, LK, turn)
            a[i, 2] = word(left, at, 16 * i * LA + HALF * LK, LK, turn)
            a[i, 3] = word(left, at, (16 * i + 8) * LA + HALF * LK, LK, turn)
        turn = right_turn(column, first)
        at = begin + column * U(RA) + first * U(RK)
        for j in range(COUNT):
            b = word(right, at, 8 * j * RA, RK, turn)
            c = word(right, at, 8 * j * RA + HALF * RK, RK, turn)
            for i in range(COUNT):
                multiply(a, i, b, c, sums, 2 * i, 2 * j)

    return STEP, step
