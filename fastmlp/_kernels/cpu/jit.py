"""Declaration of kernels, and the choice between the compiled library and Numba.

A module of kernels declares each of them by `kernel` or `function_pointer`. If the library of compiled kernels exists
(`compiled.library`), a kernel is a call into it, and Numba is not imported. Otherwise Numba compiles the kernel.

A kernel that the library lacks, because its formula was registered by a user, is compiled by Numba in any case: then
the modules of kernels are imported a second time, as `_kernels.jitted`.
"""

from __future__ import annotations

import functools
import importlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from ..._common.errors import BackendError
from ..compiled.library import library
from ..fingerprint import fingerprint
from .declare import Argument
from .host import VECTOR_BYTES

__all__ = [
    "DISABLED", "FUNCTION_POINTERS", "KERNELS", "LIBRARY", "USES_NUMBA", "Declared", "carray", "compiled_once",
    "function_pointer", "inline", "kernel", "lower", "version",
]  # fmt: skip

_HERE = Path(__file__).parent
_JITTED = f"{__name__.rpartition('.cpu.')[0]}.jitted"

# Whether kernels run as Python, for debugging.
DISABLED = os.environ.get("NUMBA_DISABLE_JIT", "").strip() not in ("", "0")
LIBRARY = None if DISABLED or ".jitted." in __name__ else library(VECTOR_BYTES)
USES_NUMBA = LIBRARY is None

if USES_NUMBA:
    from numba import carray

    from . import numba_jit
else:

    def carray(pointer: Any, shape: Any) -> Any:
        """Return an array from a pointer, in compiled code only."""
        raise NotImplementedError("carray runs in compiled code only.")


def version() -> str:
    """Return everything that the bits of results depend on."""
    if LIBRARY is not None:
        sources, numba_version = LIBRARY.description["sources"], LIBRARY.description["numba"]
    else:
        sources, numba_version = fingerprint(_HERE), importlib.import_module("numba").__version__
    return f"{sources}, {VECTOR_BYTES}-byte vectors, numba {numba_version}"


def lower(name: str) -> None:
    """Tell Numba of the operations of a module, which ``lowering`` translates in the file of the same name."""
    if USES_NUMBA:
        importlib.import_module(f".lowering.{name}", __package__)


def inline(function: Callable[..., Any]) -> Callable[..., Any]:
    """Mark a small part of kernels for inlining; it is never compiled on its own."""
    return numba_jit.compile_inline(function) if USES_NUMBA else function


def compiled_once(function: Callable[..., Any]) -> Callable[..., Any]:
    """Mark a large part of several kernels, which is linked into each of them."""
    return numba_jit.compile_once(function) if USES_NUMBA else function


class Declared(NamedTuple):
    """A kernel for the build of the library of compiled kernels."""

    function: Callable[..., Any]
    arguments: tuple[Argument, ...]
    result: Argument | None


# By name, the same in each process. The modules of kernels fill these when they are imported, and functions that make
# kernels of a formula or a dtype when they are called.
KERNELS: dict[str, Declared] = {}
FUNCTION_POINTERS: dict[str, function_pointer] = {}


def _name(function: Callable[..., Any], made_with: tuple[Any, ...]) -> str:
    maker = function.__qualname__.partition(".")[0]
    return "_".join((function.__module__.rpartition(".")[2], maker.lstrip("_"), *map(str, made_with)))


def _by_numba(function: Callable[..., Any], made_with: tuple[Any, ...]) -> Any:
    """Return a kernel that the library lacks."""
    try:
        module = importlib.import_module(f"{_JITTED}.{function.__module__.rpartition('.')[2]}")
    except ImportError as error:
        raise BackendError(
            f"The kernel {_name(function, made_with)} is not in the compiled library, and Numba cannot compile it "
            f"({error}): pip install numba."
        ) from error
    found = getattr(module, function.__qualname__.partition(".")[0])
    return found(*made_with) if made_with else found


def kernel(
    *arguments: Argument, made_with: tuple[Any, ...] = (), result: Argument | None = None
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Declare an entry point, which is compiled once per dtype and runs without the GIL.

    Parameters
    ----------
    *arguments : Argument
        Arguments of the function, in order.
    made_with : tuple
        Arguments of the function that makes the kernel, if it is not at the top of its module.
    result : Argument, optional
        Result of the function (default: none).
    """

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        name = _name(function, made_with)
        KERNELS[name] = Declared(function, arguments, result)
        if LIBRARY is None:
            return numba_jit.compile_kernel(function)
        built: Callable[..., Any] | None = LIBRARY.kernel(name, arguments, result)
        return _by_numba(function, made_with) if built is None else built

    return decorate


class function_pointer:
    """Function that compiled code calls by its address: void f(work, weights, table, numbers, first, last, extra).

    ``work`` and ``weights`` point to numbers of the model's dtype, ``table`` to int64, ``numbers`` to float64. The
    other parameters are int64. ``arguments`` gives a different signature, as names of C types in which ``real`` stands
    for the model's dtype.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        arguments: tuple[str, ...] = ("real*", "real*", "int64*", "float64*", "int64", "int64", "int64"),
        made_with: tuple[Any, ...] = (),
    ) -> None:
        self.function, self.arguments, self._made_with = function, arguments, made_with
        self._name = _name(function, made_with)
        self._compiled: Any = None
        FUNCTION_POINTERS[self._name] = self

    @classmethod
    def made_with(cls, *values: Any, **options: Any) -> Callable[[Callable[..., Any]], function_pointer]:
        """Return the decorator for a function that another one makes with these arguments, see `kernel`."""
        return functools.partial(cls, made_with=values, **options)

    def address(self, dtype: Any) -> int:
        """Return the address of the version for ``dtype``, valid in this process and its forks."""
        name = str(dtype)
        if LIBRARY is not None:
            built = LIBRARY.address(f"{self._name}_{name}")
            return int(_by_numba(self.function, self._made_with).address(name)) if built is None else built
        if self._compiled is None:
            self._compiled = numba_jit.CompiledFunctionPointer(self.function, self.arguments)
        return int(self._compiled.address(name))
