"""The compiled kernels of `Predictor`, if there are any on this machine."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any

import numpy as np

from .._common.installed import is_installed
from .._common.validation import Array
from .._kernels.compiled.library import extension_module, host_level

__all__ = ["Kernels", "inference_kernels"]

_CPU = "fastmlp._kernels.cpu"


class Kernels:
    """Kernels and driver of `Predictor`.

    Parameters
    ----------
    native : module
        The extension module, with the driver.
    """

    def __init__(self, native: ModuleType) -> None:
        self._native = native
        self._jit, self._panels, self._host = (
            importlib.import_module(f"{_CPU}.{name}") for name in ("jit", "panels", "host")
        )

    @property
    def usable(self) -> bool:
        """Whether the kernels are in the compiled library, or Numba can compile them."""
        return self.ahead_of_time or (is_installed("numba") and not self._jit.DISABLED)

    @property
    def ahead_of_time(self) -> bool:
        """Whether the kernels are those of the compiled library."""
        return self._jit.LIBRARY is not None

    @property
    def instructions(self) -> str:
        """Instruction-set level of the compiled library, or "jit" if Numba compiles the kernels."""
        return str(self._jit.LIBRARY.description["level"]) if self.ahead_of_time else "jit"

    def address(self, module: str, name: str, dtype: Any, *made_with: str) -> int:
        """Return the address of a `function_pointer` of a module of `_kernels.cpu`.

        ``made_with`` are the arguments of the function that makes it, if it is not at the top of the module.
        """
        if self.ahead_of_time:
            # By name: the import of the modules would take longer than all else of a Predictor.
            built = self._jit.LIBRARY.address(f"{self._jit.declared_name(module, name, made_with)}_{dtype}")
            if built is not None:
                return int(built)
        found = getattr(importlib.import_module(f"{_CPU}.{module}"), name)
        return int((found(*made_with) if made_with else found).address(dtype))

    def row_function(self, name: str, dtype: Any, *made_with: str) -> int:
        """Return the address of a function of a row."""
        return self.address("inference", name, dtype, *made_with)

    def activation(self, kind: str, dtype: Any) -> int:
        """Return the address of an activation."""
        return self.address("elementwise", "forward_function", dtype, kind)

    def packed(self, weight: Array) -> Array:
        """Return a weight (O, I) as the flat matrix (I, O) in panels."""
        outputs, inputs = weight.shape
        matrix = np.zeros(self._panels.size(inputs, outputs, weight.dtype), weight.dtype)
        self._panels.pack(weight.T, matrix, 0, inputs)
        return matrix

    def padded(self, values: Array | None, width: int, dtype: Any) -> Array:
        """Return ``values``, by default zeros, followed by zeros up to whole vectors."""
        vector = np.zeros(self._panels.round_up(width, dtype), dtype)
        if values is not None:
            vector[:width] = values
        return vector

    def plan(self, inputs: int, dtype: Any, steps: Any, threads: int, row_threads: int) -> Any:
        """Return the `Plan` of the driver for these steps."""
        addresses = (self.address("inference", name, dtype) for name in ("linear", "convert_bytes"))
        lanes = self._host.LANES[dtype.itemsize]
        return self._native.Plan(inputs, dtype, lanes, *addresses, steps, threads, row_threads)

    def mean_of(self, plans: list[Any], x: Array) -> Array | None:
        """Return the mean outputs (N, O) of plans of the same widths, or None for an array that they cannot read."""
        found: Array | None = self._native.mean_of(plans, x)
        return found


def inference_kernels() -> Kernels | None:
    """Return the compiled kernels of `Predictor`, or None if they can neither be loaded nor compiled.

    That is the case without the extension module, on a processor without fused multiply-adds, with NUMBA_DISABLE_JIT,
    and where neither the library of compiled kernels nor Numba is installed.

    Raises
    ------
    BackendError
        If FASTMLP_LANES is not one of its values.
    """
    native = extension_module()
    if native is None or not host_level():
        return None
    kernels = Kernels(native)
    return kernels if kernels.usable else None
