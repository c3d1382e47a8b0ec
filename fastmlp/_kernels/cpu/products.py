"""C = A B (+ bias) where B and C are in panels: what all three products of a layer are made of.

B's panels are streamed through, a block of rows at a time that stays in L1; A is only ever broadcast. An element
of C is one chain of fused multiply-adds in ascending k that starts at its bias, in whichever tile it is computed:
no choice below changes a bit of it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import carray

from .arithmetic import ceil_div
from .host import TILE_ROWS, VECTOR_BYTES
from .jit import inline, shared
from .native import invoke, prefetch, prefetch_to_read
from .simd import lanes
from .tile import load_tile, multiply_add, new_tile, store_tile, strides, transpose_block

__all__ = [
    "TURNED", "Epilogue", "Left", "Right", "Target", "even_block", "product", "rows_product", "transposed_product",
]  # fmt: skip

_ALL = 1 << 48  # a shape for arrays made of pointers: nothing looks at it

ROW_BLOCK = 512  # rows of A that stay in L2 while B's panels pass
K_BLOCK = 20480 // (2 * VECTOR_BYTES)  # rows of a panel of B: most of the smallest L1 in use
TURNED = K_BLOCK + 64  # rows that a block of B has at most
FAR = 1 << 18  # elements of C: so many have left L2 when the next block of B is added to them

# Heights of tiles, largest first: enough sums at once to keep the multipliers busy, and the tails in between.
# Each costs a third of a second to compile.
S0, S1, S2, S3, S4 = {6: (6, 5, 4, 2, 1), 12: (12, 10, 8, 4, 1)}[TILE_ROWS]
# A panel of one vector has half as many sums in a row.
N0, N1, N2, N3 = 12, 8, 4, 1


class Left(NamedTuple):
    """A at pointer ``data``: element (r, k), k in ``full`` panels of ``inner`` columns and then ``tail`` more."""

    data: Any
    start: int
    row: int
    unit: int  # always 1, see `linear`
    panel: int  # from one panel to the next
    full: int
    inner: int
    tail_start: int
    tail_row: int
    tail_unit: int
    tail: int


class Right(NamedTuple):
    """B: rows ``first`` .. of panels that are ``rows`` rows apart."""

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
    far: bool  # whether C is to be asked for ahead


class Epilogue(NamedTuple):
    """The function that is called on each panel of C when it is done; address 0 for none."""

    address: int
    weights: Any
    table: Any
    numbers: Any
    column: int  # where C begins in the matrix that the function knows


@inline
def _tile(tile, left, r, right, j, begin, bias, c, at, row):
    """One tile of C: rows r .. of A, from row j of B's panel on. ``begin``: 0 from C, 1 from bias, 2 from zero."""
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
    """Rows of the next tile: two of like height are better than a full one and a low one."""
    if m <= most:
        return m
    if m >= 2 * most:
        return most
    return (m + 1) // 2


@inline
def _ask_ahead(left, right, target, column, c, at, row, r, height):
    """Ask for as large a share of B's next panel as this tile is of C's, and where C is far for its next tile."""
    m, line = target.m, 64 // c.itemsize
    if target.far:
        for i in range(at + (r + height) * row, at + min(r + 2 * height, m) * row, line):
            prefetch(c, i)
    if target.width - column >= 2 * row:  # as wide as this one
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


@shared
def product(left, right, begin, bias, target, epilogue):
    """Add A B to C, see `Left`, `Right` and `Target`.

    ``begin`` 0 adds to what is in C, 1 to the bias at ``bias`` of right.data, 2 to zero.
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
            invoke(
                epilogue.address, target.data, epilogue.weights, epilogue.table, epilogue.numbers, target.first,
                target.first + target.m, epilogue.column + column,
            )  # fmt: skip
        column += stride


@inline
def even_block(length, most, unit):
    """``length`` in even parts of at most about ``most``, each a multiple of ``unit``."""
    block = most
    if length > most:  # divisions by what is no constant would cost small nets as much as their products
        block = ceil_div(length, ceil_div(length, most) * unit) * unit
    return block


@shared
def rows_product(data, a, k, b, begin, bias, c, width, weights, rows, r0, r1, epilogue, unit):
    """Rows r0 .. r1 of C = A B (+ bias): A (rows, k) and C (rows, width) in panels at ``a`` and ``c`` of ``data``.

    B (k, width) is at ``b`` of ``weights``, with room for whole vectors of rows; ``begin`` is that of `product`,
    ``unit`` is 1.
    """
    panel = 2 * lanes(carray(data, 1))
    room = ceil_div(k, panel // 2) * (panel // 2)
    block, height = even_block(k, K_BLOCK, panel), even_block(r1 - r0, ROW_BLOCK, 1)
    for row in range(r0, r1, height):
        m = min(height, r1 - row)
        for first in range(0, k, block):
            length = min(block, k - first)
            full, tail = length // panel, length % panel
            tail_row = panel if tail > panel // 2 else panel // 2
            product(
                Left(data, a + first * rows + row * panel, panel, unit, rows * panel, full, panel,
                     a + (first + full * panel) * rows + row * tail_row, tail_row, unit, tail),
                Right(weights, b, room, first), begin if first == 0 else 0, bias,
                Target(data, c, rows, row, m, width, m * width >= FAR),
                Epilogue(
                    epilogue.address if first + length == k else 0, epilogue.weights, epilogue.table,
                    epilogue.numbers, 0,
                ),
            )  # fmt: skip


@shared
def transposed_product(data, a, k, b, c, width, weights, rows, r0, r1, epilogue, unit, scratch):
    """`rows_product` without bias where B's transpose (width, k) is at ``b``: a block of it is turned over at a time.

    ``scratch`` is room in ``data`` for `TURNED` rows of a panel. With many rows that costs less than to keep the
    other copy up to date, and no memory.
    """
    source, target = carray(weights, _ALL), carray(data, _ALL)
    half = lanes(target)
    panel, room = 2 * half, ceil_div(width, half) * half
    block, height = even_block(k, K_BLOCK, panel), even_block(r1 - r0, ROW_BLOCK, 1)
    for row in range(r0, r1, height):
        m = min(height, r1 - row)
        for first in range(0, k, block):
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
                    Target(data, c + column * rows, rows, row, m, min(panel, width - column), m * width >= FAR),
                    Epilogue(
                        epilogue.address if first + length == k else 0, epilogue.weights, epilogue.table,
                        epilogue.numbers, column,
                    ),
                )  # fmt: skip
