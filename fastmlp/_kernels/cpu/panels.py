"""Column panels: the layout of every matrix that the engine touches.

A matrix of R rows is cut into panels of `WIDTH` columns (two vectors), stored one after the other, each row
after row; the last panel is one vector wide where that is enough. All three products of a layer then stream
through memory. Columns that only fill up a vector are zero, always.
"""

from __future__ import annotations

import numpy as np

from ..._common.arithmetic import ceil_div
from .host import LANES
from .jit import inline
from .simd import lanes

__all__ = ["pack", "panel_stride", "place", "rounded", "size", "unpack"]


def rounded(width, dtype):
    """``width`` with what fills its last vector."""
    unit = LANES[np.dtype(dtype).itemsize]
    return ceil_div(width, unit) * unit


def size(rows, width, dtype):
    """Elements of a matrix in panels."""
    return rows * rounded(width, dtype)


def _parts(matrix, offset, rows, other):
    """(view of panels, view of their columns of ``other (R, C)``): the full ones at once, then a narrower one."""
    unit = LANES[matrix.itemsize]
    inner, width = other.shape
    wide = 2 * unit
    full = width // wide
    if full:
        panels = matrix[offset : offset + full * wide * rows].reshape(full, rows, wide)
        # Splitting one axis gives a view, whatever the strides are.
        yield panels[:, :inner], other.T[: full * wide].reshape(full, wide, inner).transpose(0, 2, 1)
    start = full * wide
    if start < width:
        stride = wide if width - start > unit else unit
        at = offset + start * rows
        panel = matrix[at : at + rows * stride].reshape(rows, stride)
        yield panel[:inner, : width - start], other[:, start:]


def pack(source, matrix, offset, rows):
    """Write ``source (R, C)`` into a matrix with room for ``rows`` >= R at ``offset`` of the flat ``matrix``."""
    for panels, columns in _parts(matrix, offset, rows, source):
        panels[...] = columns


def unpack(matrix, offset, rows, out):
    """The other way: fill ``out (R, C)``."""
    for panels, columns in _parts(matrix, offset, rows, out):
        columns[...] = panels


@inline
def panel_stride(a, width, column):
    """Elements from one row of the panel that begins at ``column`` to the next; ``a`` is of the matrix's dtype."""
    return 2 * lanes(a) if width - column > lanes(a) else lanes(a)


@inline
def place(a, offset, rows, width, row, column):
    """Where element (row, column) is; ``column`` begins a vector."""
    first = column - column % (2 * lanes(a))
    return offset + first * rows + row * panel_stride(a, width, first) + (column - first)
