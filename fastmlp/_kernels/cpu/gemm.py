"""Matrix product C = A B (+ bias) on column panels, the basis of all products of Linear.

For each block of the inner dimension and each panel of columns, B is packed into a buffer that stays in L1 (row by
row, two vectors wide). All of A then passes over the packed panel, one tile of rows at a time. A is only ever
broadcast, so it may have any strides and is read in place without packing.

Each element of C is one chain of fused multiply-adds in ascending k that starts at its bias, for every tile shape.
The bits of C therefore do not depend on the block length, the vector width or the number of rows.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from .host import TILE_ROWS
from .jit import compiled_once, inline
from .simd import element, lanes, load, load_tail, set_element, store
from .tile import at_least, load_tile, multiply_add, new_tile, store_tile, strides, transpose_block

__all__ = ["PANEL_BYTES", "Matrix", "Panel", "multiply", "narrow_panel", "wide_panel"]

# A tile of 2 rows is bound by the latency of its multiply-adds. With tiles of 6 rows, 6 + 2 remaining rows are
# therefore computed as two tiles of 4.
LEFT_OVER = 2 if TILE_ROWS == 6 else -1

PANEL_BYTES = 16384  # half of the smallest L1 in use; A and C need the other half


class Matrix(NamedTuple):
    """Strided view of a flat array: element (r, c) is element start + r row + c column of ``data``."""

    data: Any
    start: int
    row: int
    column: int


class Panel(NamedTuple):
    """Columns of C and the packed block of B for them."""

    packed: Any  # (k, 1 or 2 vectors)
    k: int  # length of the block
    first: bool  # whether this is the first block, which initializes C
    column: int  # the first column of C
    filled: int  # columns of C in the panel's last vector
    lowest: float  # replaces smaller elements of C: 0 for ReLU, minus infinity for none


@inline
def _tiles(tile, rows, r, m, a, panel, bias, c):
    """Compute all tiles of ``rows`` rows of C that fit between r and m; return the first remaining row."""
    distances = strides(a.data, a.row)
    while m - r >= rows and m - r != rows + LEFT_OVER:
        at = c.start + r * c.row + panel.column
        if not panel.first:
            sums = load_tile(tile, c.data, at, c.row, panel.filled)
        elif bias.size > 0:
            sums = load_tile(tile, bias, panel.column, 0, panel.filled)
        else:
            sums = tile
        i = a.start + r * a.row
        for p in range(panel.k):
            sums = multiply_add(sums, a.data, i, distances, panel.packed, p)
            i += a.column
        store_tile(at_least(sums, panel.lowest), c.data, at, c.row, panel.filled)
        r += rows
    return r


@inline
def wide_panel(m, a, panel, bias, c):
    """Compute ``m`` rows of two vectors of C from the packed ``panel`` of B; ``a`` and ``c`` are `Matrix`."""
    r = _tiles(new_tile(c.data, TILE_ROWS, 2), TILE_ROWS, 0, m, a, panel, bias, c)
    r = _tiles(new_tile(c.data, 4, 2), 4, r, m, a, panel, bias, c)
    r = _tiles(new_tile(c.data, 2, 2), 2, r, m, a, panel, bias, c)
    _tiles(new_tile(c.data, 1, 2), 1, r, m, a, panel, bias, c)


@inline
def narrow_panel(m, a, panel, bias, c):
    """Compute ``m`` rows of one vector of C, see `wide_panel`."""
    r = _tiles(new_tile(c.data, TILE_ROWS, 1), TILE_ROWS, 0, m, a, panel, bias, c)
    r = _tiles(new_tile(c.data, 4, 1), 4, r, m, a, panel, bias, c)
    r = _tiles(new_tile(c.data, 2, 1), 2, r, m, a, panel, bias, c)
    _tiles(new_tile(c.data, 1, 1), 1, r, m, a, panel, bias, c)


@inline
def _pack_rows(b, i, k, vectors, count, packed):
    """Pack a block of B whose rows are contiguous (b.column is 1); element i is the block's first."""
    width = lanes(packed)
    to, at = 0, i
    if vectors == 2 and count == width:
        for _ in range(k):
            store(packed, to, load(b.data, at))
            store(packed, to + width, load(b.data, at + width))
            to, at = to + 2 * width, at + b.row
        return
    for _ in range(k):
        if vectors == 2:
            store(packed, to, load(b.data, at))
        last = (vectors - 1) * width
        store(packed, to + last, load_tail(b.data, at + last, count))
        to, at = to + vectors * width, at + b.row


@inline
def _pack_columns(b, i, k, vectors, count, packed):
    """Pack a block of B whose columns are contiguous (b.row is 1), by square transposes."""
    width = lanes(packed)
    stride = vectors * width
    for v in range(vectors):
        filled = width if v + 1 < vectors else count
        at, to = i + v * width * b.column, v * width
        p = 0
        if filled == width:
            while p + width <= k:
                transpose_block(b.data, at + p, b.column, packed, to + p * stride, stride)
                p += width
        while p < k:
            for c in range(width):
                x = element(b.data, at + c * b.column + p) if c < filled else 0
                set_element(packed, to + p * stride + c, x)
            p += 1


@compiled_once
def multiply(a, b, bias, c, m, n, k, packed):
    """Compute C (m, n) = A (m, k) B (k, n) + bias (n,); pass an array of size 0 for no bias.

    ``a``, ``b`` and ``c`` are `Matrix`. b.row or b.column is 1; c.column is 1. ``packed`` is scratch of `PANEL_BYTES`.
    """
    width = lanes(packed)
    block = packed.size // (2 * width)
    done = 0
    while done == 0 or done < k:  # runs once for k = 0 too, where C is the bias
        length = min(block, k - done)
        a_block = Matrix(a.data, a.start + done * a.column, a.row, a.column)
        column = 0
        while column < n:
            left = n - column
            vectors = 2 if left > width else 1
            count = min(left - (vectors - 1) * width, width)
            i = b.start + done * b.row + column * b.column
            if b.column == 1:
                _pack_rows(b, i, length, vectors, count, packed)
            else:
                _pack_columns(b, i, length, vectors, count, packed)
            panel = Panel(packed, length, done == 0, column, count, -np.inf)
            if vectors == 2:
                wide_panel(m, a_block, panel, bias, c)
            else:
                narrow_panel(m, a_block, panel, bias, c)
            column += vectors * width
        done += max(length, 1)
