"""Column panels, the layout of every matrix in the engine.

A matrix of R rows is divided into panels of two vectors of columns. The panels are stored one after the other, each
row by row. The last panel is one vector wide if one vector suffices. All three products of a layer then stream
through memory. Padding columns that fill up a vector are always zero.
"""

from __future__ import annotations

import numpy as np

from ..._common.arithmetic import ceil_div
from .host import LANES
from .jit import inline
from .simd import lanes

__all__ = ["pack", "panel_stride", "offset_of", "round_up", "size", "unpack"]


def round_up(width, dtype):
    """Return ``width`` rounded up to whole vectors."""
    unit = LANES[np.dtype(dtype).itemsize]
    return ceil_div(width, unit) * unit


def size(rows, width, dtype):
    """Return the number of elements of a matrix in panels."""
    return rows * round_up(width, dtype)


def _parts(matrix, offset, rows, other):
    """Yield (view of panels, matching columns of ``other (R, C)``): all full panels, then a narrower one if needed."""
    unit = LANES[matrix.itemsize]
    inner, width = other.shape
    wide = 2 * unit
    full = width // wide
    if full:
        panels = matrix[offset : offset + full * wide * rows].reshape(full, rows, wide)
        # Splitting one axis gives a view for any strides.
        yield panels[:, :inner], other.T[: full * wide].reshape(full, wide, inner).transpose(0, 2, 1)
    start = full * wide
    if start < width:
        stride = wide if width - start > unit else unit
        at = offset + start * rows
        panel = matrix[at : at + rows * stride].reshape(rows, stride)
        yield panel[:inner, : width - start], other[:, start:]


def pack(source, matrix, offset, rows):
    """Write ``source (R, C)`` to the matrix at ``offset`` of the flat ``matrix``, which has room for ``rows`` >= R."""
    for panels, columns in _parts(matrix, offset, rows, source):
        panels[...] = columns


def unpack(matrix, offset, rows, out):
    """Read ``out (R, C)`` from the matrix at ``offset``, the inverse of `pack`."""
    for panels, columns in _parts(matrix, offset, rows, out):
        columns[...] = panels


@inline
def panel_stride(a, width, column):
    """Return the row stride in elements of the panel that begins at ``column``; ``a`` has the matrix's dtype."""
    return 2 * lanes(a) if width - column > lanes(a) else lanes(a)


@inline
def offset_of(a, offset, rows, width, row, column):
    """Return the offset of element (row, column); ``column`` is the first of a vector."""
    first = column - column % (2 * lanes(a))
    return offset + first * rows + row * panel_stride(a, width, first) + (column - first)
