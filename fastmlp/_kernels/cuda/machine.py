"""Machine: the GPU as `fastmlp.engine.gpu` sees it: arrays that it keeps, copies, and the launch of a run of steps."""

from __future__ import annotations

import math
import threading
from typing import Any

import numba
import numpy as np

from ..quick import quickly
from .elementwise import THREADS
from .elementwise import blocks as blocks_for
from .grid import most_blocks, wait_for_grid
from .runtime import cuda
from .spec import Spec
from .steps import BESIDE, EACH_ITEM, steps_kernel
from .tiles import NARROW, WIDE_TILES
from .updates import mark_if_not_finite

__all__ = ["Machine"]

_RESERVE = 1 << 28  # bytes that stay free beside a data set


class Machine:
    """The current GPU.

    Launches and copies are in one stream, whose work is done in the order in which it was asked for; `send` has another
    one. What the backend's operations do, in the default stream, is before or after all of this.

    Attributes
    ----------
    narrow, wide : Geometry
        Tiles; each_item : int, see `steps`.
    blocks : int
        Multiprocessors; beside : int, how many blocks one can have.
    wide_dtypes : tuple of str
    copies_later : bool
        Whether it copies to shared memory while a block goes on: from compute capability 8.0 on.
    launched : dict of Spec to kernel
        What was launched so far, for who wants to know what the compiler made of it.
    sent_ahead : object or None
        What the engine that sent row numbers for a later launch last knows of them, see `fastmlp.engine.gpu`.
    lock : RLock
        To be held from the first `put` or `send` of a launch to the last `download`: their memory is shared.
    """

    narrow, wide, each_item = NARROW, WIDE_TILES, EACH_ITEM
    beside = BESIDE
    wide_dtypes = ("float32",)  # wide tiles of float64 have no room in a block's shared memory

    def __init__(self) -> None:
        self.lock = threading.RLock()
        device = cuda.get_current_device()
        self.blocks, self.copies_later = int(device.MULTIPROCESSOR_COUNT), tuple(device.compute_capability) >= (8, 0)
        self.launched: dict[Spec, Any] = {}
        self._kept: dict[str, Any] = {}
        self._pinned: dict[str, Any] = {}
        self._work, self._copies = cuda.stream(), cuda.stream()
        self._at_work = False
        self.sent_ahead: Any = None

    # ---------------------------------------------------------------------------------------- arrays

    def room(self) -> int:
        """Bytes that a data set may take."""
        free, _ = cuda.current_context().get_memory_info()
        return max(0, int(free) - _RESERVE)

    def capacity(self) -> int:
        """Bytes of memory that it has, used or free."""
        return int(cuda.current_context().get_memory_info()[1])

    def zeros(self, shape: Any, dtype: Any) -> Any:
        """A new array of zeros."""
        return self.upload(np.zeros(shape, dtype))

    def empty(self, shape: Any, dtype: Any) -> Any:
        """A new array to be written before it is read."""
        return cuda.device_array(shape, dtype)

    def upload(self, array: Any) -> Any:
        """A copy on the GPU."""
        return cuda.to_device(np.ascontiguousarray(array), stream=self._work)

    def put(self, name: str, lists: list[Any], dtype: Any) -> Any:
        """Arrays one after the other as a vector of a dtype, in memory that is used again for the next of that name.

        That may be asked for when what was launched with the last one is done, which `download` waits for.
        """
        if self._at_work:
            self._work.synchronize()
            self._at_work = False
        size = sum(array.size for array in lists)
        gathered, at = self._gathered(name, size, dtype), 0
        for array in lists:
            gathered[at : at + array.size] = array.reshape(-1)
            at += array.size
        view = self._view(name, (size,), dtype)
        view.copy_to_device(gathered, stream=self._work)
        return view

    def _gathered(self, name: str, size: int, dtype: Any) -> Any:
        """So many elements of memory that copies to the GPU need not copy first, the same at the next call."""
        pinned = self._pinned.get(name)
        if pinned is None or pinned.dtype != dtype or pinned.size < size:
            pinned = self._pinned[name] = cuda.pinned_array(_roomy(size), dtype)
        return pinned[:size]

    def send(self, name: str, slot: int, rows: Any, index: Any, dtype: Any) -> Any:
        """Rows of an array, on their way beside the work that was asked for before; `run` waits for them.

        ``index`` None is all of them.
        They are gathered in memory that is used again at the next call of that name, and arrive in memory that is used
        again at the next of that name and slot.
        """
        shape = rows.shape if index is None else (len(index), *rows.shape[1:])
        self._copies.synchronize()  # what was gathered there before has left
        gathered = self._gathered(name, math.prod(shape), dtype).reshape(shape)
        if index is None:
            gathered[...] = rows
        elif isinstance(rows, np.ndarray) and rows.dtype == dtype:
            np.take(rows, index, axis=0, out=gathered, mode="clip")  # other modes make a copy first
        else:
            gathered[...] = rows[index]
        view = self._view(f"{name} {slot}", shape, dtype)
        view.copy_to_device(gathered, stream=self._copies)
        return view

    def _view(self, name: str, shape: Any, dtype: Any) -> Any:
        size = math.prod(shape)
        kept = self._kept.get(name)
        if kept is None or kept.dtype != dtype or kept.size < size:
            self._work.synchronize()  # it may be at work on the old one
            kept = self._kept[name] = cuda.device_array(_roomy(size), dtype)
        return kept[:size].reshape(shape) if size else cuda.device_array(shape, dtype)

    def assign(self, target: Any, source: Any) -> None:
        """Copy from one array of the GPU, or from NumPy's, to another of the same size, both flat."""
        target.copy_to_device(source, stream=self._work)

    def download(self, array: Any) -> Any:
        """As NumPy's, when all before is done."""
        host = array.copy_to_host(stream=self._work)
        self._work.synchronize()
        self._at_work = False
        return host

    def finite(self, arrays: list[Any]) -> bool:
        """Whether all numbers of some vectors are: they stay on the GPU."""
        with self.lock:
            found = self.put("found", [np.zeros(1, np.int32)], np.int32)
            for array in arrays:
                mark_if_not_finite[blocks_for(array.size), THREADS, self._work](array, found)
            return int(self.download(found)[0]) == 0

    # ---------------------------------------------------------------------------------------- launch

    def run(self, spec: Spec, arguments: tuple[Any, ...], blocks: int) -> None:
        """Launch a run of steps, on so many blocks at most; it may go on after the call."""
        kernel = self.launched[spec] = steps_kernel(spec, wait=wait_for_grid)
        types = tuple(numba.typeof(argument) for argument in arguments)
        if types not in kernel.overloads:
            with quickly("numba.cuda.core"):
                kernel.compile(types)
        self._copies.synchronize()
        blocks = min(blocks, most_blocks(kernel, types, NARROW.threads))
        self._at_work = True
        kernel[blocks, NARROW.threads, self._work](*arguments)


def _roomy(size: int) -> int:
    """Elements to allocate for so many: launches grow step by step, and memory that is pinned takes long to get."""
    return 1 << max(0, size - 1).bit_length()
