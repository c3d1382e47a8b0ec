"""Compiled backends behind an interface that takes and returns NumPy arrays."""

from __future__ import annotations

import contextlib
import functools
import gc
import importlib
import os
import sys
import threading
from types import SimpleNamespace
from unittest import mock

import numpy as np

from fastmlp import BackendError
from fastmlp._kernels import get_backend

SIMULATED = os.environ.get("NUMBA_ENABLE_CUDASIM") == "1"
NATIVE = os.environ.get("FASTMLP_NATIVE_CUDA") == "1"  # CUDA kernels are compiled for the host CPU
ARCHITECTURE = (8, 0)


@contextlib.contextmanager
def a_gpu_to_compile_for():
    """Compile device functions as if a GPU were present."""
    there = SimpleNamespace(compute_capability=ARCHITECTURE)
    with contextlib.ExitStack() as stack:
        for name in ("dispatcher", "compiler"):
            module = importlib.import_module(f"numba.cuda.{name}")
            stack.enter_context(mock.patch.object(module, "get_current_device", lambda: there))
        yield


@contextlib.contextmanager
def compiling():
    """Compile CUDA kernels; freeze the compiler's objects, which would slow down garbage collection in later tests."""
    yield
    gc.freeze()


def _share_arrays():
    """Add a lock to the shared arrays of Numba's simulator.

    Without it two threads that create a shared array at once get separate arrays.
    """
    simulator, lock = importlib.import_module("numba.cuda.simulator.kernelapi"), threading.Lock()

    def array(self, shape, dtype):
        caller = sys._getframe(1)
        place = caller.f_code.co_filename, caller.f_lineno
        with lock:
            if place not in self._allocations:
                self._allocations[place] = np.empty(shape, simulator.numpy_support.as_dtype(dtype))
            return self._allocations[place]

    simulator.FakeCUDAShared.array = array


if SIMULATED:
    # Threads of the simulator poll in barriers; a short switch interval limits the time spent polling.
    sys.setswitchinterval(1e-4)
    _share_arrays()
if NATIVE:
    importlib.import_module("native").replace_gpu()


def _has_gpu():
    try:
        get_backend("cuda")
    except BackendError:
        return False
    return True


# Simulated tests take seconds instead of milliseconds, so other backends are not tested in the same run.
COMPILED = ["cuda"] if SIMULATED or NATIVE else ["numba", "cuda"] if _has_gpu() else ["numba"]
BACKENDS = COMPILED if SIMULATED or NATIVE else ["numpy", *COMPILED]


class _OnDevice:
    """Operations that run on copies of NumPy arrays and write the results back."""

    def __init__(self, backend):
        self._backend = backend

    def __getattr__(self, operation):
        return functools.partial(self._run, getattr(self._backend, operation))

    def _run(self, function, *args):
        arrays = {id(a): a for a in args if isinstance(a, np.ndarray)}
        there = {key: self._backend.from_numpy(a) for key, a in arrays.items()}
        result = function(*(there.get(id(a), a) for a in args))
        for key, a in arrays.items():
            if a.flags.writeable:
                a[...] = self._backend.to_numpy(there[key])
        return result


def operations(name):
    """Return the operations of a backend."""
    backend = get_backend(name)
    return _OnDevice(backend) if name == "cuda" else backend
