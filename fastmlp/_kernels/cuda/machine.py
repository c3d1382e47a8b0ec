"""Machine: the GPU as `fastmlp.engine.gpu` sees it: arrays that it keeps, copies, and the launch of a run of steps."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from .grid import most_blocks, wait_for_grid
from .runtime import cuda
from .steps import EACH_ITEM, Spec, steps_kernel
from .tiles import NARROW, WIDE_TILES

__all__ = ["Machine"]

_RESERVE = 1 << 28  # bytes that stay free beside a data set


class Machine:
    """The current GPU.

    Attributes
    ----------
    narrow, wide : Geometry
        Tiles; each_item : int, see `steps`.
    blocks : int
        How many run at the same time: one on each multiprocessor.
    """

    narrow, wide, each_item = NARROW, WIDE_TILES, EACH_ITEM

    def __init__(self) -> None:
        self.blocks = int(cuda.get_current_device().MULTIPROCESSOR_COUNT)
        self._kept: dict[str, Any] = {}
        self._copies = cuda.stream()

    # ---------------------------------------------------------------------------------------- arrays

    def room(self) -> int:
        """Bytes that a data set may take."""
        free, _ = cuda.current_context().get_memory_info()
        return max(0, int(free) - _RESERVE)

    def zeros(self, shape: Any, dtype: Any) -> Any:
        """A new array of zeros."""
        return cuda.to_device(np.zeros(shape, dtype))

    def upload(self, array: Any) -> Any:
        """A copy on the GPU."""
        return cuda.to_device(np.ascontiguousarray(array))

    def put(self, name: str, array: Any) -> Any:
        """A copy in memory that is used again for the next array of that name."""
        array = np.ascontiguousarray(array)
        kept = self._kept.get(name)
        if kept is None or kept.dtype != array.dtype or kept.size < array.size:
            kept = self._kept[name] = cuda.device_array(max(1, array.size), array.dtype)
        view = kept[: array.size].reshape(array.shape) if array.size else cuda.device_array(array.shape, array.dtype)
        if array.size:
            view.copy_to_device(array)
        return view

    def assign(self, target: Any, source: Any) -> None:
        """Copy from one array of the GPU, or from NumPy's, to another of the same size, both flat."""
        target.copy_to_device(source)

    def download(self, array: Any) -> Any:
        """As NumPy's, when all before is done."""
        return array.copy_to_host()

    # ---------------------------------------------------------------------------------------- launch

    def run(self, spec: Spec, arguments: tuple[Any, ...]) -> None:
        """Launch a run of steps; it may go on after the call."""
        kernel = steps_kernel(spec, wait=wait_for_grid)
        types = tuple(numba.typeof(argument) for argument in arguments)
        if types not in kernel.overloads:
            kernel.compile(types)
        kernel[most_blocks(kernel, types, NARROW.threads), NARROW.threads](*arguments)
