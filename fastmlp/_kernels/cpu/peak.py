"""Micro-kernel benchmark: an upper bound of the speed of `gemm`'s multiply-adds."""

from __future__ import annotations

from .declare import INT, VECTOR
from .host import TILE_ROWS
from .jit import kernel
from .simd import lanes
from .tile import load_tile, multiply_add, new_tile, store_tile, strides

__all__ = ["repeat_tile"]


@kernel(VECTOR, VECTOR, VECTOR, INT, INT, INT)
def repeat_tile(a, panel, c, k, repeats, unit):
    """Compute C (TILE_ROWS, 2 vectors) += A (TILE_ROWS, k) panel (k, 2 vectors) ``repeats`` times, all in L1.

    ``unit`` is always 1, see `linear`.
    """
    width, rows = lanes(c), strides(a, k)
    for _ in range(repeats):
        sums = load_tile(new_tile(c, TILE_ROWS, 2), c, 0, 2 * width, width)
        i = 0
        for p in range(k):
            sums = multiply_add(sums, a, i, rows, panel, p)
            i += unit
        store_tile(sums, c, 0, 2 * width, width)
