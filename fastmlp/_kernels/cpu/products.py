"""Matrix product C = A B (+ bias) with B and C in panels, the basis of all three products of a layer.

B's panels are streamed, one block of rows that stays in L1 at a time. A is only ever broadcast. Each element of C is
one chain of fused multiply-adds in ascending k that starts at its bias, for every tile shape. The tuning choices below
therefore do not change the bits of C.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from .arithmetic import ceil_div
from .host import TILE_ROWS, VECTOR_BYTES
from .jit import carray, compiled_once, inline
from .native import call_pointer, prefetch, prefetch_to_read
from .simd import lanes
from .tile import load_tile, multiply_add, new_tile, store_tile, strides, transpose_block

__all__ = [
    "MAX_BLOCK_ROWS", "Epilogue", "Left", "Right", "Target", "even_block", "product", "rows_product",
    "transposed_product",
]  # fmt: skip

_ALL = 1 << 48  # placeholder shape of arrays made from pointers; never read

ROW_BLOCK = 512  # rows of A that stay in L2 while B's panels are streamed
K_BLOCK = 20480 // (2 * VECTOR_BYTES)  # rows of a panel of B that fill most of the smallest L1 in use
MAX_BLOCK_ROWS = K_BLOCK + 64  # upper bound of the rows of a block of B
FAR = 1 << 18  # elements of C; a larger C has left L2 before the next block of B is accumulated

# Heights of tiles, largest first: enough accumulators to hide the latency of the multiply-adds, and heights for the
# tails. Each height adds a third of a second of compilation.
S0, S1, S2, S3, S4 = {6: (6, 5, 4, 2, 1), 12: (12, 10, 8, 4, 1)}[TILE_ROWS]
# A panel of one vector has half as many accumulators per row.
N0, N1, N2, N3 = 12, 8, 4, 1


class Left(NamedTuple):
    """A at pointer ``data``: element (r, k), k in ``full`` panels of ``inner`` columns followed by ``tail`` columns."""

    data: Any
    start: int
    row: int
    unit: int  # no constant of the compiler, see `linear`
    panel: int  # distance of consecutive panels
    full: int
    inner: int
    tail_start: int
    tail_row: int
    tail_unit: int
    tail: int


class Right(NamedTuple):
    """B: rows from ``first`` on of panels that are ``rows`` rows apart."""

    data: Any
    start: int
    rows: int
    first: int


class Target(NamedTuple):
    """C: ``m`` rows from ``first`` on of a matrix (rows, width) in panels at ``start`` of pointer ``data``."""

    data: Any
    start: int
    rows: int
    first: int
    m: int
    width: int
    far: bool  # whether to prefetch C
    ahead: bool  # whether to prefetch B's next panel


class Epilogue(NamedTuple):
    """Function called on each finished panel of C; address 0 for none."""

    address: int
    weights: Any
    table: Any
    numbers: Any
    column: int  # first column of C in the function's matrix


@inline
def _tile(tile, left, r, right, j, begin, bias, c, at, row):
    """Compute one tile of C from rows r .. of A and row j of B's panel on.

    ``begin`` selects the initial accumulators: 0 for C, 1 for the bias, 2 for zero.
    """
    a, b = carray(left.data, _ALL), carray(right.data, _ALL)
    if begin == 0:
        sums = load_tile(tile, c, at, row, lanes(c))
    elif begin == 1:
        sums = load_tile(tile, b, bias, 0, lanes(c))
    else:
        sums = tile
    i = left.start + r * left.row
    step, unit, inner = left.row, left.unit, left.inner
    for segment in range(left.full + (1 if left.tail > 0 else 0)):
        if segment == left.full:
            i, step, unit, inner = left.tail_start + r * left.tail_row, left.tail_row, left.tail_unit, left.tail
        k, rows = i, strides(a, step)
        for p in range(inner):
            sums = multiply_add(sums, a, k, rows, b, j + p)
            k += unit
        j += inner
        i += left.panel
    store_tile(sums, c, at, row, lanes(c))


@inline
def _height(m, most):
    """Return the rows of the next tile; two tiles of similar height are faster than a full and a low one."""
    if m <= most:
        return m
    if m >= 2 * most:
        return most
    return (m + 1) // 2


@inline
def _ask_ahead(left, right, target, column, c, at, row, r, height):
    """Prefetch what `Target` asks for: the next tile of C, and this tile's share of B's next panel."""
    m, line = target.m, 64 // c.itemsize
    if target.far:
        for i in range(at + (r + height) * row, at + min(r + 2 * height, m) * row, line):
            prefetch(c, i)
    if target.ahead and target.width - column >= 2 * row:  # the next panel is as wide as this one
        start = right.start + (column + row) * right.rows + right.first * row
        b, size = carray(right.data, _ALL), (left.full * left.inner + left.tail) * row
        for i in range(start + size * r // m, start + size * (r + height) // m, line):
            prefetch_to_read(b, i)


@inline
def _wide(left, right, j, begin, bias, c, at, row, target, column):
    m, r = target.m, 0
    while r < m:
        height = _height(m - r, S0)
        to = at + r * row
        _ask_ahead(left, right, target, column, c, at, row, r, height)
        if height >= S0:
            _tile(new_tile(c, S0, 2), left, r, right, j, begin, bias, c, to, row)
            r += S0
        elif height >= S1:
            _tile(new_tile(c, S1, 2), left, r, right, j, begin, bias, c, to, row)
            r += S1
        elif height >= S2:
            _tile(new_tile(c, S2, 2), left, r, right, j, begin, bias, c, to, row)
            r += S2
        elif height >= S3:
            _tile(new_tile(c, S3, 2), left, r, right, j, begin, bias, c, to, row)
            r += S3
        else:
            _tile(new_tile(c, S4, 2), left, r, right, j, begin, bias, c, to, row)
            r += S4


@inline
def _narrow(m, left, right, j, begin, bias, c, at, row):
    r = 0
    while r < m:
        height = _height(m - r, N0)
        to = at + r * row
        if height >= N0:
            _tile(new_tile(c, N0, 1), left, r, right, j, begin, bias, c, to, row)
            r += N0
        elif height >= N1:
            _tile(new_tile(c, N1, 1), left, r, right, j, begin, bias, c, to, row)
            r += N1
        elif height >= N2:
            _tile(new_tile(c, N2, 1), left, r, right, j, begin, bias, c, to, row)
            r += N2
        else:
            _tile(new_tile(c, N3, 1), left, r, right, j, begin, bias, c, to, row)
            r += N3


@compiled_once
def product(left, right, begin, bias, target, epilogue):
    """Compute C = A B + the initial value, see `Left`, `Right` and `Target`.

    The initial value is C for ``begin`` 0, the bias at ``bias`` of right.data for 1, and zero for 2.
    """
    c = carray(target.data, _ALL)
    unit = lanes(c)
    column = 0
    while column < target.width:
        if target.width - column > unit:
            stride = 2 * unit
            at = target.start + column * target.rows + target.first * stride
            j = (right.start + column * right.rows) // stride + right.first
            _wide(left, right, j, begin, bias + column, c, at, stride, target, column)
        else:
            stride = unit
            at = target.start + column * target.rows + target.first * stride
            j = (right.start + column * right.rows) // stride + right.first
            _narrow(target.m, left, right, j, begin, bias + column, c, at, stride)
        if epilogue.address != 0:
            call_pointer(
                epilogue.address, target.data, epilogue.weights, epilogue.table, epilogue.numbers, target.first,
                target.first + target.m, epilogue.column + column,
            )  # fmt: skip
        column += stride


@inline
def even_block(length, most, unit):
    """Return the block size for even blocks of ``length`` of at most about ``most``, a multiple of ``unit``."""
    block = most
    if length > most:  # avoid the divisions by variables, which would cost small nets as much as their products
        block = ceil_div(length, ceil_div(length, most) * unit) * unit
    return block


@compiled_once
def rows_product(data, a, k, b, begin, bias, c, width, weights, rows, r0, r1, epilogue, unit, ahead):
    """Compute rows r0 .. r1 of C = A B (+ bias), with A (rows, k) and C (rows, width) in panels.

    A and C are at ``a`` and ``c`` of ``data``. B (k, width) is at ``b`` of ``weights``, with its rows padded to whole
    vectors. ``begin`` is that of `product`; ``unit`` is 1. ``ahead``: see `Target`.
    """
    panel = 2 * lanes(carray(data, 1))
    room = ceil_div(k, panel // 2) * (panel // 2)
    block, height = even_block(k, K_BLOCK, panel), even_block(r1 - r0, ROW_BLOCK, 1)
    row = r0
    while row < r1:
        m = min(height, r1 - row)
        first = 0
        while first < k:
            length = min(block, k - first)
            full, tail = length // panel, length % panel
            tail_row = panel if tail > panel // 2 else panel // 2
            product(
                Left(data, a + first * rows + row * panel, panel, unit, rows * panel, full, panel,
                     a + (first + full * panel) * rows + row * tail_row, tail_row, unit, tail),
                Right(weights, b, room, first), begin if first == 0 else 0, bias,
                Target(data, c, rows, row, m, width, m * width >= FAR, ahead),
                Epilogue(
                    epilogue.address if first + length == k else 0, epilogue.weights, epilogue.table,
                    epilogue.numbers, 0,
                ),
            )  # fmt: skip
            first += block
        row += height


@compiled_once
def transposed_product(data, a, k, b, c, width, weights, rows, r0, r1, epilogue, unit, scratch):
    """Compute `rows_product` without bias from B's transpose (width, k) at ``b``, transposed one block at a time.

    ``scratch`` is the offset in ``data`` of room for `MAX_BLOCK_ROWS` rows of a panel. For batches of many rows, the
    transposition is cheaper than updating a second copy of B, and saves its memory.
    """
    source, target = carray(weights, _ALL), carray(data, _ALL)
    half = lanes(target)
    panel, room = 2 * half, ceil_div(width, half) * half
    block, height = even_block(k, K_BLOCK, panel), even_block(r1 - r0, ROW_BLOCK, 1)
    row = r0
    while row < r1:
        m = min(height, r1 - row)
        first = 0
        while first < k:
            length = min(block, k - first)
            full, tail = length // panel, length % panel
            tail_row = panel if tail > half else half
            for column in range(0, width, panel):
                side = panel if width - column > half else half
                for p in range(0, length, panel):
                    stride = panel if k - first - p > half else half
                    start = b + (first + p) * room + column * stride
                    for i in range(0, side, half):
                        for o in range(0, stride, half):
                            transpose_block(
                                source, start + i * stride + o, stride, target, scratch + (p + o) * side + i, side
                            )
                product(
                    Left(data, a + first * rows + row * panel, panel, unit, rows * panel, full, panel,
                         a + (first + full * panel) * rows + row * tail_row, tail_row, unit, tail),
                    Right(data, scratch, 0, 0), 2 if first == 0 else 0, np.int64(0),
                    Target(data, c + column * rows, rows, row, m, min(panel, width - column), m * width >= FAR, False),
                    Epilogue(
                        epilogue.address if first + length == k else 0, epilogue.weights, epilogue.table,
                        epilogue.numbers, column,
                    ),
                )  # fmt: skip
            first += block
        row += height
