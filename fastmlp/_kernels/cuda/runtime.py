"""Import of Numba's CUDA target, array transfers and kernel launches; the only module that imports the target."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import config as numba_config
from numba import cuda

from ..._common.errors import BackendError

__all__ = ["SIMULATED", "TENSOR_CORES", "check", "cuda", "empty", "from_numpy", "launch", "to_numpy", "zeros"]

# The simulator runs each CUDA thread as a Python thread, so blocks are smaller there; the code is the same.
SIMULATED = numba_config.ENABLE_CUDASIM != 0

TENSOR_CORES = (8, 0)  # minimum compute capability for the instructions of `tensor`

try:  # numba-cuda's own settings; the simulator has none
    from numba.cuda import config
except ImportError:
    from numba.core import config
# Small networks always leave multiprocessors idle, so the warning is useless.
config.CUDA_LOW_OCCUPANCY_WARNINGS = 0


def check(precision: str = "float32") -> None:
    """Raise BackendError if no GPU is usable or the GPU does not support the precision."""
    if not cuda.is_available():
        cause = " ".join(str(getattr(cuda, "cuda_error", lambda: "")() or "no device").split()).rstrip(".: ")
        raise BackendError(f"The backend 'cuda' needs an NVIDIA GPU and its driver, and none can be used: {cause}.")
    if precision != "float32":
        if SIMULATED:
            raise BackendError(f"The precision {precision!r} needs a GPU; Numba's simulator has no tensor cores.")
        found = cuda.get_current_device().compute_capability
        if found < TENSOR_CORES:
            raise BackendError(
                f"The precision {precision!r} needs a GPU of compute capability 8.0 or later; this one has "
                f"{found[0]}.{found[1]}."
            )


def _on_device(array: Any) -> bool:
    return hasattr(array, "copy_to_host")


def empty(shape: Any, dtype: Any) -> Any:
    """Return an uninitialized array on the GPU."""
    return cuda.device_array(shape, np.dtype(dtype))


def zeros(shape: Any, dtype: Any) -> Any:
    """Return an array of zeros on the GPU."""
    return cuda.to_device(np.zeros(shape, dtype))


def from_numpy(array: Any) -> Any:
    """Copy a NumPy array to the GPU; return a GPU array unchanged."""
    return array if _on_device(array) else cuda.to_device(np.ascontiguousarray(array))


def to_numpy(array: Any) -> Any:
    """Copy a GPU array to a NumPy array after all earlier launches are done."""
    return array.copy_to_host() if _on_device(array) else array


def launch(kernel: Any, blocks: Any, threads: Any, *args: Any) -> None:
    """Launch a kernel, unless the grid is empty."""
    if np.prod(blocks) > 0:
        kernel[blocks, threads](*args)
