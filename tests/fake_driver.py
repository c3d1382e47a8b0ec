"""Fake CUDA driver that uses host memory, so that Numba's device arrays and copies run without a GPU.

The arrays accept and reject the same arguments as on a GPU. Kernels are compiled and run synchronously by `native`.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
from types import SimpleNamespace

import numpy as np
from compiled import ARCHITECTURE

_FREE = 1 << 30  # free memory in bytes, of a small GPU
_MULTIPROCESSORS = 3


class _Driver:
    """Driver functions that copy and set memory."""

    is_available = True

    def cuMemcpyHtoD(self, to, source, size, stream=None):  # this and the names below are those of the CUDA driver API
        ctypes.memmove(int(to), int(source), size)

    cuMemcpyDtoH = cuMemcpyDtoD = cuMemcpyHtoD
    cuMemcpyHtoDAsync = cuMemcpyDtoHAsync = cuMemcpyDtoDAsync = cuMemcpyHtoD

    def cuStreamSynchronize(self, stream):
        """All is done."""

    def cuMemsetD8(self, to, value, size, stream=None):
        ctypes.memset(int(to), value, size)

    cuMemsetD8Async = cuMemsetD8


class _Context:
    """Context of the only device, which computes nothing itself."""

    device = SimpleNamespace(compute_capability=ARCHITECTURE, MULTIPROCESSOR_COUNT=_MULTIPROCESSORS, name="none", id=0)

    def __init__(self, driver):
        self._driver = driver

    def memalloc(self, size):
        memory = np.full(size + 256, 0xFF, np.uint8)  # NaN as a float, and an invalid index as an integer
        first = memory.ctypes.data + -memory.ctypes.data % 256
        return self._driver.MemoryPointer(self, self._driver.binding.CUdeviceptr(first), size, owner=memory)

    def memhostalloc(self, size, mapped=False, portable=False, wc=False):
        memory = np.full(size, 0xFF, np.uint8)
        return self._driver.PinnedMemory(self, memory.ctypes.data, size, owner=memory)

    def get_memory_info(self):
        return _FREE, _FREE

    def create_stream(self):
        return self._driver.Stream(self._driver.binding.CUstream(1))

    get_default_stream = create_stream

    def synchronize(self):
        """All is done."""


def _here(argument):
    """Return a device array as a NumPy array that shares its memory."""
    if not hasattr(argument, "copy_to_host"):
        return argument
    if argument.size == 0:
        return np.empty(argument.shape, argument.dtype)
    memory = (ctypes.c_uint8 * argument.alloc_size).from_address(argument.device_ctypes_pointer.value)
    return np.ndarray(argument.shape, argument.dtype, memory, 0, argument.strides)


def install(machine):
    """Install the fake GPU for the process; ``machine.run(kernel, grid, block, arguments)`` runs kernels."""
    names = ("", ".cudadrv.driver", ".cudadrv.devices", ".dispatcher")
    cuda, driver, devices, dispatcher = (importlib.import_module(f"numba.cuda{name}") for name in names)
    context = _Context(driver)
    driver.driver = _Driver()
    devices._runtime.ensure_context = contextlib.nullcontext
    devices._runtime.get_or_create_context = lambda number: context
    cuda.is_available = lambda: True

    class Launch:
        def __init__(self, kernel, configuration):
            self._kernel, (self._grid, self._block) = kernel, configuration[:2]

        def __call__(self, *arguments):
            machine.run(self._kernel, self._grid, self._block, tuple(map(_here, arguments)))

    def compile_for(self, types):
        self.overloads[types] = SimpleNamespace(max_cooperative_grid_blocks=lambda threads: _MULTIPROCESSORS)

    dispatcher.CUDADispatcher.__getitem__ = lambda self, configuration: Launch(self, configuration)
    dispatcher.CUDADispatcher.compile = compile_for
