"""GPU interface of `fastmlp.engine.gpu`: device arrays, copies and the launch of a run of steps."""

from __future__ import annotations

import math
import threading
from typing import Any

import numba
import numpy as np

from .elementwise import THREADS
from .elementwise import blocks as blocks_for
from .grid import most_blocks, wait_for_grid
from .runtime import cuda
from .spec import Spec
from .steps import BLOCKS_PER_SM, EACH_ITEM, steps_kernel
from .table import LISTS
from .tiles import NARROW, WIDE_TILES
from .updates import mark_if_not_finite

__all__ = ["Machine"]

_RESERVE = 1 << 28  # bytes of device memory that a data set leaves free


class Machine:
    """The current GPU.

    Launches and copies use one stream and execute in order; `send` uses a second stream. The backend's operations use
    the default stream, which is ordered with both.

    Attributes
    ----------
    narrow, wide : Geometry
        Tile geometries.
    each_item : int
        Elements of a thread in an item of an UPDATE job, see `steps`.
    blocks : int
        Number of multiprocessors.
    blocks_per_sm : int
        Maximum number of blocks per multiprocessor.
    wide_dtypes : tuple of str
        Dtypes that support wide tiles.
    copies_later : bool
        Whether the GPU supports async copies to shared memory, which need compute capability 8.0.
    wait : device function
        Grid barrier of the kernels, `grid.wait_for_grid` or a replacement with measurements.
    header : int
        Number of entries of ``ints`` before the tables: `table.LISTS`, or more for the output of a replaced barrier.
    launched : dict of Spec to kernel
        Kernels launched so far, for inspection of the compiled code.
    sent_ahead : object or None
        State of the engine that last sent row numbers for a later launch, see `fastmlp.engine.gpu`.
    lock : RLock
        Must be held from the first `put` or `send` of a launch to the last `download`, because launches share buffers.
    """

    narrow, wide, each_item = NARROW, WIDE_TILES, EACH_ITEM
    blocks_per_sm = BLOCKS_PER_SM
    wide_dtypes = ("float32",)  # wide float64 tiles exceed a block's shared memory

    def __init__(self) -> None:
        self.lock = threading.RLock()
        device = cuda.get_current_device()
        self.blocks, self.copies_later = int(device.MULTIPROCESSOR_COUNT), tuple(device.compute_capability) >= (8, 0)
        self.wait, self.header = wait_for_grid, LISTS
        self.launched: dict[Spec, Any] = {}
        self._kept: dict[str, Any] = {}
        self._pinned: dict[str, Any] = {}
        self._work, self._copies = cuda.stream(), cuda.stream()
        self._at_work = False
        self.sent_ahead: Any = None

    # ---------------------------------------------------------------------------------------- arrays

    def room(self) -> int:
        """Return the number of bytes available to a data set."""
        free, _ = cuda.current_context().get_memory_info()
        return max(0, int(free) - _RESERVE)

    def capacity(self) -> int:
        """Return the total device memory in bytes."""
        return int(cuda.current_context().get_memory_info()[1])

    def zeros(self, shape: Any, dtype: Any) -> Any:
        """Return a new array of zeros on the GPU."""
        return self.upload(np.zeros(shape, dtype))

    def empty(self, shape: Any, dtype: Any) -> Any:
        """Return a new uninitialized array on the GPU."""
        return cuda.device_array(shape, dtype)

    def upload(self, array: Any) -> Any:
        """Copy an array to the GPU."""
        return cuda.to_device(np.ascontiguousarray(array), stream=self._work)

    def put(self, name: str, lists: list[Any], dtype: Any) -> Any:
        """Copy arrays, concatenated to a vector of a dtype, to the buffer called ``name``.

        The next call with the same name reuses the buffer. The call waits for a launch that may still read the buffer,
        unless `download` has already done so.
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
        """Return ``size`` elements of a pinned host buffer, reused by the next call with the same name."""
        pinned = self._pinned.get(name)
        if pinned is None or pinned.dtype != dtype or pinned.size < size:
            pinned = self._pinned[name] = cuda.pinned_array(_roomy(size), dtype)
        return pinned[:size]

    def send(self, name: str, slot: int, rows: Any, index: Any, dtype: Any) -> Any:
        """Start a copy of rows to the GPU that overlaps with earlier launches; `run` waits for the copy.

        ``index`` selects the rows; None selects all rows. The next call with the same ``name`` reuses the pinned host
        buffer. The next call with the same ``name`` and ``slot`` reuses the device buffer.
        """
        shape = rows.shape if index is None else (len(index), *rows.shape[1:])
        self._copies.synchronize()  # the previous copy may still read the pinned buffer
        gathered = self._gathered(name, math.prod(shape), dtype).reshape(shape)
        if index is None:
            gathered[...] = rows
        elif isinstance(rows, np.ndarray) and rows.dtype == dtype:
            np.take(rows, index, axis=0, out=gathered, mode="clip")  # other modes buffer the output
        else:
            gathered[...] = rows[index]
        view = self._view(f"{name} {slot}", shape, dtype)
        view.copy_to_device(gathered, stream=self._copies)
        return view

    def _view(self, name: str, shape: Any, dtype: Any) -> Any:
        size = math.prod(shape)
        kept = self._kept.get(name)
        if kept is None or kept.dtype != dtype or kept.size < size:
            self._work.synchronize()  # a launch may still use the old buffer
            kept = self._kept[name] = cuda.device_array(_roomy(size), dtype)
        return kept[:size].reshape(shape) if size else cuda.device_array(shape, dtype)

    def assign(self, target: Any, source: Any) -> None:
        """Copy a flat GPU or NumPy array to a flat GPU array of the same size."""
        target.copy_to_device(source, stream=self._work)

    def download(self, array: Any) -> Any:
        """Return a NumPy copy of an array after all earlier work is done."""
        host = array.copy_to_host(stream=self._work)
        self._work.synchronize()
        self._at_work = False
        return host

    def finite(self, arrays: list[Any]) -> bool:
        """Return whether all elements of vectors on the GPU are finite, without copying the vectors to the host."""
        with self.lock:
            found = self.put("found", [np.zeros(1, np.int32)], np.int32)
            for array in arrays:
                mark_if_not_finite[blocks_for(array.size), THREADS, self._work](array, found)
            return int(self.download(found)[0]) == 0

    # ---------------------------------------------------------------------------------------- launch

    def run(self, spec: Spec, arguments: tuple[Any, ...], blocks: int) -> None:
        """Launch a run of steps on at most ``blocks`` blocks, asynchronously."""
        kernel = self.launched[spec] = steps_kernel(spec, wait=self.wait, header=self.header)
        types = tuple(numba.typeof(argument) for argument in arguments)
        if types not in kernel.overloads:
            kernel.compile(types)
        self._copies.synchronize()
        blocks = min(blocks, most_blocks(kernel, types, NARROW.threads))
        self._at_work = True
        kernel[blocks, NARROW.threads, self._work](*arguments)


def _roomy(size: int) -> int:
    """Round a size up to a power of two: launches grow gradually, and allocating pinned memory is slow."""
    return 1 << max(0, size - 1).bit_length()
