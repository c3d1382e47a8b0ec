"""Accumulator tile of the GEMM micro-kernel: a few rows of vectors that LLVM keeps in registers.

The numbers of rows and of vectors per row are part of the type. One micro-kernel in plain Python (`gemm`) therefore
compiles to a fully unrolled version for each tile shape. Each operation also has a NumPy definition on arrays
(rows, vectors, lanes).
"""

from __future__ import annotations

import numpy as np

from . import simd
from .host import LANES
from .jit import lower

__all__ = [
    "at_least", "load_tile", "multiply_add", "multiply_add_row", "new_tile", "store_tile", "strides", "transpose_block",
]  # fmt: skip


def new_tile(a: np.ndarray, rows: int, vectors: int) -> np.ndarray:
    """Return a tile of zeros of ``a``'s dtype; ``rows`` and ``vectors`` are compile-time constants."""
    return np.zeros((rows, vectors, LANES[a.itemsize]), a.dtype)


ODD = (1, 3, 5, 7, 9, 11)  # the distance of any two rows of a tile is one of these times a power of two


def strides(a: np.ndarray, row: int) -> tuple[int, ...]:
    """Return the distances in bytes from a row of ``a`` to the ``ODD`` rows after it, ``row`` elements apart.

    The distances must be unrelated values to LLVM. An x86 address can contain 1, 2, 4 or 8 times one of them, so a
    single pointer addresses all rows of a tile. If LLVM knew that the distances are multiples of one number, LLVM would
    compute the address of each row by an addition to the previous one. That chain of additions is as long as the chain
    of multiply-adds, and occupies ports that the multiply-adds need.
    """
    return tuple(k * row * a.itemsize for k in ODD)


def multiply_add(
    tile: np.ndarray, a: np.ndarray, i: int, rows: tuple[int, ...], panel: np.ndarray, p: int
) -> np.ndarray:
    """Return tile[r, v] + a[i + r row] * panel[p, v], with the `strides` of ``row``.

    The panel's rows have as many vectors as the tile's.
    """
    row = rows[0] // a.itemsize
    tile = tile.copy()
    count, vectors, width = tile.shape
    for r in range(count):
        left = simd.broadcast(a, i + r * row)
        for v in range(vectors):
            tile[r, v] = simd.fma(left, simd.load(panel, (p * vectors + v) * width), tile[r, v])
    return tile


def multiply_add_row(
    tile: np.ndarray, a: np.ndarray, i: int, panels: tuple[int, ...], b: np.ndarray, j: int
) -> np.ndarray:
    """Return tile[r, v] + a[i] * (vector v from b[j + r panel] on), with the `strides` of ``panel``.

    Each row of the tile is part of the same row of a product, in another panel.
    """
    panel = panels[0] // b.itemsize
    tile = tile.copy()
    count, vectors, width = tile.shape
    left = simd.broadcast(a, i)
    for r in range(count):
        for v in range(vectors):
            tile[r, v] = simd.fma(left, simd.load(b, j + r * panel + v * width), tile[r, v])
    return tile


def at_least(tile: np.ndarray, x: float) -> np.ndarray:
    """Return the tile, with ``x`` in place of smaller numbers; NaN stays NaN."""
    return np.where(tile < x, tile.dtype.type(x), tile)


def load_tile(tile: np.ndarray, c: np.ndarray, i: int, row: int, count: int) -> np.ndarray:
    """Load the tile at c[i + r row ...]; the last vector of each row has ``count`` elements, followed by zeros."""
    tile = tile.copy()
    rows, vectors, width = tile.shape
    for r in range(rows):
        for v in range(vectors):
            tile[r, v] = simd.load_tail(c, i + r * row + v * width, width if v + 1 < vectors else count)
    return tile


def store_tile(tile: np.ndarray, c: np.ndarray, i: int, row: int, count: int) -> None:
    """Store the tile to c[i + r row ...]; the last vector of each row has only ``count`` elements."""
    rows, vectors, width = tile.shape
    for r in range(rows):
        for v in range(vectors):
            simd.store_tail(c, i + r * row + v * width, tile[r, v], width if v + 1 < vectors else count)


def transpose_block(a: np.ndarray, i: int, row: int, b: np.ndarray, j: int, b_row: int) -> None:
    """Compute b[j + c b_row + r] = a[i + r row + c] for r and c below the number of lanes."""
    width = LANES[a.itemsize]
    rows = np.stack([simd.load(a, i + r * row) for r in range(width)])
    for c in range(width):
        simd.store(b, j + c * b_row, rows[:, c])


lower("tile")
