"""Weights: parameters and optimizer state in the layout of the CPU kernels."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from .._common.arithmetic import ceil_div
from .._common.validation import Array
from .._kernels.cpu import panels
from .._kernels.cpu.host import LANES
from .._kernels.cpu.table import PARAM_COLUMNS
from ..modules import Module
from ..modules.arrays import SharedDict
from ..modules.lowering import Layer
from ..optim import Optimizer
from .native import has_native, native
from .support import state_kinds

__all__ = ["MANY_ROWS", "Arena", "Weights"]

# With at least this many rows, the backward product transposes weight blocks on the fly: as fast, with less memory.
MANY_ROWS = 512


class Arena:
    """Allocator of offsets into one flat array, each aligned to a cache line; the array is created last."""

    def __init__(self, dtype: np.dtype[Any]) -> None:
        self.dtype = dtype
        self._line = max(2 * LANES[dtype.itemsize], 64 // dtype.itemsize)
        self._end = 0

    def allocate(self, size: int) -> int:
        """Reserve ``size`` elements and return their offset."""
        start = self._end
        self._end += ceil_div(size, self._line) * self._line
        return start

    def matrix(self, rows: int, width: int) -> int:
        """Reserve a matrix in panels and return its offset."""
        return self.allocate(panels.size(rows, width, self.dtype))

    def array(self) -> Array:
        """Create the array of zeros; the operating system commits a page only when it is written."""
        # Kernels load whole vectors, which may begin at the last element.
        raw = np.zeros((self._end + 2 * self._line) * self.dtype.itemsize + 64, np.uint8)
        start = -raw.ctypes.data % 64
        flat: Array = raw[start : start + (self._end + 2 * self._line) * self.dtype.itemsize].view(self.dtype)
        return flat


class Weights:
    """Parameters in panels, with transposed copies and optimizer state.

    Parameters
    ----------
    layers : list of Layer
        See `support.layers_of`.
    optimizer : Optimizer or None
        None for inference, which needs neither state nor transposed copies.
    dtype : numpy.dtype
    batch : int
        Rows of a step; from `MANY_ROWS` on there are no transposed copies.

    Attributes
    ----------
    data : ndarray
        Flat array of all numbers; ``params (P, PARAM_COLUMNS)`` holds the offsets in it.
    """

    def __init__(self, layers: list[Layer], optimizer: Optimizer | None, dtype: np.dtype[Any], batch: int = 0) -> None:
        self.layers, self.optimizer, self.dtype = layers, optimizer, dtype
        self._arena = Arena(dtype)
        # A change of the optimizer's states creates a new engine, see `support.settings`.
        kinds = self._kinds = [] if optimizer is None else state_kinds(optimizer)
        self._entries: list[tuple[Module, str, str, tuple[int, ...]]] = []
        places: list[list[int]] = []
        self.rows: dict[tuple[int, str], int] = {}
        self.copies: dict[tuple[int, str], int] = {}
        # Keys: (index of the layer, name of the buffer), or (-1, "class weight").
        self.constants: dict[tuple[int, str], int] = {}
        self._vectors: list[tuple[int, Array]] = []
        trained_before = False
        for index, layer in enumerate(layers):
            for name, array in layer.module.params.items():
                shape = tuple(array.shape)
                self.rows[index, name] = len(places)
                self._entries.append((layer.module, layer.prefix, name, shape))
                arrays = [self._place(shape)] + [self._place(shape) if kind else -1 for kind in kinds]
                places.append((arrays + [-1] * PARAM_COLUMNS)[:PARAM_COLUMNS])
            for name, array in layer.module.params.items():
                if array.ndim == 2 and optimizer is not None and trained_before and batch < MANY_ROWS:
                    outputs, inputs = array.shape
                    self.copies[index, name] = self._arena.matrix(panels.round_up(outputs, dtype), inputs)
            trained_before = trained_before or bool(layer.module.params)
            for name, array in layer.module.buffers.items():
                self.constants[index, name] = self.constant(array)
        self.params = np.array(places, np.int64).reshape(len(places), PARAM_COLUMNS)
        self._places = self._place_arrays()
        self.data: Array = np.empty(0, dtype)

    def _place(self, shape: tuple[int, ...]) -> int:
        rows = 1 if len(shape) == 1 else panels.round_up(shape[1], self.dtype)
        return self._arena.matrix(rows, shape[0])

    def names(self) -> list[str]:
        """Return the names of the parameters in the order of ``params``."""
        return [prefix + name for _, prefix, name, _ in self._entries]

    def size(self, row: int) -> int:
        """Return the number of elements of a parameter in panels."""
        shape = self._entries[row][3]
        rows = 1 if len(shape) == 1 else panels.round_up(shape[1], self.dtype)
        return int(panels.size(rows, shape[0], self.dtype))

    @property
    def gradient_size(self) -> int:
        """Number of elements that the gradients of all parameters take, one after the other."""
        arena, end = Arena(self.dtype), 0
        for row in range(len(self.params)):
            end = arena.allocate(self.size(row)) + self.size(row)
        return end

    def constant(self, values: Array) -> int:
        """Reserve memory for a vector that training does not change and return its offset; before `allocate`."""
        place = self._arena.matrix(1, len(values))
        self._vectors.append((place, values))
        return place

    def allocate(self) -> None:
        """Create the array and copy all numbers into it."""
        self.data = self._arena.array()
        for place, values in self._vectors:
            self.data[place : place + len(values)] = values
        self.load()

    def entries(self) -> Iterator[tuple[SharedDict, str, int]]:
        """Iterate over (dict of user arrays, name of an array in it, offset in ``data``)."""
        for row, (module, prefix, name, _) in zip(self.params, self._entries, strict=True):
            yield module.params, name, row[0]
            if self.optimizer is not None:
                state = self.optimizer.state.local(prefix + name)
                for kind, place in zip(self._kinds, row[1:], strict=False):
                    if kind:
                        yield state, kind, place

    def _copied_arrays(self) -> list[Array]:
        """Return the user's arrays in the order of ``_places``, without the weights of the transposed copies."""
        return [arrays.local(name) for arrays, name, _ in self.entries()]

    def _place_arrays(self) -> Array:
        """Return (offset, rows reserved, whether the transpose is stored, shape) of all arrays, int64 (A, 5)."""
        places = []
        for row, entry in zip(self.params, self._entries, strict=True):
            shape = entry[3]
            inner = 1 if len(shape) == 1 else panels.round_up(shape[1], self.dtype)
            for place in row[: 1 + len(self._kinds)]:
                if place >= 0:
                    places.append((place, inner, len(shape) == 2, *(*shape, -1)[:2]))
        for (index, name), place in self.copies.items():
            shape = self.layers[index].module.params.local(name).shape
            places.append((place, panels.round_up(shape[0], self.dtype), False, *shape))
        return np.array(places, np.int64).reshape(len(places), 5)

    def states(self) -> Iterator[tuple[SharedDict, str]]:
        """Iterate over (dict of user arrays, name of an array in it) of the optimizer's state."""
        params = {id(module.params) for module, *_ in self._entries}
        return ((arrays, name) for arrays, name, _ in self.entries() if id(arrays) not in params)

    def mirror(self) -> native.Mirror | None:
        """Return the mirror of the parameters in the user's arrays; None without native code for their layout."""
        if not has_native():
            return None
        arrays = [module.params.local(name) for module, _, name, _ in self._entries]
        copied = [self.layers[index].module.params.local(name) for index, name in self.copies]
        if not all(isinstance(array, np.ndarray) and array.flags.c_contiguous for array in arrays):
            return None
        kinds = 1 + sum(kind is not None for kind in self._kinds)
        first = kinds * len(arrays)
        places = np.ascontiguousarray(np.concatenate([self._places[:first:kinds], self._places[first:]]))
        return native.Mirror(arrays, copied, self.data, places, LANES[self.dtype.itemsize])

    def unload_states(self) -> None:
        """Copy the optimizer's states back into the user's arrays."""
        kinds = 1 + sum(kind is not None for kind in self._kinds)
        if kinds > 1:
            parameters = range(0, kinds * len(self._entries), kinds)
            arrays = [arrays.local(name) for arrays, name in self.states()]
            self._copy(arrays, True, np.delete(self._places[: kinds * len(self._entries)], parameters, 0))

    def load(self) -> None:
        """Copy the user's arrays into ``data``."""
        arrays = self._copied_arrays()
        arrays += [self.layers[index].module.params.local(name) for index, name in self.copies]
        self._copy(arrays, False)

    def _copy(self, arrays: list[Array], unpack: bool, places: Array | None = None) -> None:
        """Copy arrays in the order of ``places``, by default ``_places``, to the panels, or back."""
        places = self._places if places is None else places
        lanes = LANES[self.dtype.itemsize]
        if has_native() and native.copy_panels(arrays, self.data, places, lanes, unpack):
            return
        for array, (place, rows, transposed, _, _) in zip(arrays, places, strict=False):
            matrix = array.reshape(1, -1) if array.ndim == 1 else array.T if transposed else array
            if unpack:
                panels.unpack(self.data, place, rows, matrix)
            else:
                panels.pack(matrix, self.data, place, rows)

    def finite(self) -> bool:
        """Return whether all parameters are finite."""
        sizes = ((place, self.size(row)) for row, place in enumerate(self.params[:, 0]))
        return all(bool(np.isfinite(self.data[place : place + size]).all()) for place, size in sizes)

    def unload(self) -> None:
        """Copy all parameters and states back into the user's arrays."""
        self._copy(self._copied_arrays(), True)
