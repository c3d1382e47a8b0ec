"""The one place that imports Numba's CUDA target, so that its successor can take its place, and that launches."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import config as numba_config
from numba import cuda

from ..._common.errors import BackendError

__all__ = ["SIMULATED", "TENSOR_CORES", "check", "cuda", "empty", "from_numpy", "launch", "to_numpy", "zeros"]

# The simulator makes a Python thread of each of a block's: blocks are small there, the code is the same.
SIMULATED = numba_config.ENABLE_CUDASIM != 0

TENSOR_CORES = (8, 0)  # the first compute capability that has the instructions of `tensor`

try:  # numba-cuda's own settings; the simulator has none
    from numba.cuda import config
except ImportError:
    from numba.core import config
# It warns of grids that leave multiprocessors idle, as those of small nets always do.
config.CUDA_LOW_OCCUPANCY_WARNINGS = 0


def check(precision: str = "float32") -> None:
    """Raise BackendError where no GPU can be used, or none that has the precision."""
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
    """An array to be written, on the GPU."""
    return cuda.device_array(shape, np.dtype(dtype))


def zeros(shape: Any, dtype: Any) -> Any:
    """An array of zeros on the GPU."""
    return cuda.to_device(np.zeros(shape, dtype))


def from_numpy(array: Any) -> Any:
    """A NumPy array on the GPU; one that is there stays."""
    return array if _on_device(array) else cuda.to_device(np.ascontiguousarray(array))


def to_numpy(array: Any) -> Any:
    """An array of the GPU as a NumPy array, when all that was launched before is done."""
    return array.copy_to_host() if _on_device(array) else array


def launch(kernel: Any, blocks: Any, threads: Any, *args: Any) -> None:
    """Run a kernel over a grid, unless it has no block."""
    if np.prod(blocks) > 0:
        kernel[blocks, threads](*args)
