"""Declaration of kernels, and where their compiled code comes from.

A module of kernels declares each of them by `kernel` or `function_pointer`. A call of a kernel is a call into the
library of compiled kernels (`compiled.library`). Numba compiles a kernel that the library lacks at its first call
(`compiled.on_demand`): all kernels where there is no library, and those of formulas that users register.

Numba compiles from a second copy of the modules, `_kernels.jitted`, in which the functions that kernels are made of
are Numba's. So a process that compiles nothing does not import Numba.
"""

from __future__ import annotations

import functools
import importlib
import os
from collections.abc import Callable
from typing import Any, NamedTuple

from ..compiled import on_demand
from ..compiled.library import kernel_type, library
from .declare import Argument, versions
from .host import VECTOR_BYTES

__all__ = [
    "DISABLED", "FUNCTION_POINTERS", "JITTED", "KERNELS", "LIBRARY", "Declared", "carray", "compiled_once",
    "declared_name", "function_pointer", "inline", "kernel", "lower", "version",
]  # fmt: skip


# Whether kernels run as Python, for debugging.
DISABLED = os.environ.get("NUMBA_DISABLE_JIT", "").strip() not in ("", "0")
JITTED = ".jitted." in __name__ and not DISABLED
LIBRARY = None if DISABLED or JITTED else library(VECTOR_BYTES)

if JITTED:
    from numba import carray

    from . import numba_jit
else:

    def carray(pointer: Any, shape: Any) -> Any:
        """Return an array from a pointer, in compiled code only."""
        raise NotImplementedError("carray runs in compiled code only.")


def version() -> str:
    """Return everything that the bits of results depend on."""
    if LIBRARY is None:
        return f"{on_demand.sources()}, {on_demand.code_of_host()}"
    description = LIBRARY.description
    return f"{description['sources']}, {VECTOR_BYTES}-byte vectors, numba {description['numba']}"


def lower(name: str) -> None:
    """Tell Numba of the operations of a module, which ``lowering`` translates in the file of the same name."""
    if JITTED:
        importlib.import_module(f".lowering.{name}", __package__)


def inline(function: Callable[..., Any]) -> Callable[..., Any]:
    """Mark a small part of kernels for inlining; it is never compiled on its own."""
    return numba_jit.compile_inline(function) if JITTED else function


def compiled_once(function: Callable[..., Any]) -> Callable[..., Any]:
    """Mark a large part of several kernels, which is linked into each of them."""
    return numba_jit.compile_once(function) if JITTED else function


class Declared(NamedTuple):
    """A kernel for its compilation."""

    function: Callable[..., Any]
    arguments: tuple[Argument, ...]
    result: Argument | None


# By name, the same in each process. The modules of kernels fill these when they are imported, and functions that make
# kernels of a formula or a dtype when they are called.
KERNELS: dict[str, Declared] = {}
FUNCTION_POINTERS: dict[str, function_pointer] = {}


def declared_name(module: str, maker: str, made_with: tuple[Any, ...]) -> str:
    """Return the name of a declaration, see `kernel`; ``maker`` is the function itself at the top of its module."""
    return "_".join((module, maker.lstrip("_"), *map(str, made_with)))


def _name(function: Callable[..., Any], made_with: tuple[Any, ...]) -> str:
    module, maker = function.__module__.rpartition(".")[2], function.__qualname__.partition(".")[0]
    return declared_name(module, maker, made_with)


def _captured_names(function: Callable[..., Any]) -> str:
    """Return the names of the functions and the values that a function captures; names of formulas have a digest."""
    cells = getattr(function, "__closure__", None) or ()
    return " ".join(str(getattr(cell.cell_contents, "__name__", cell.cell_contents)) for cell in cells)


def _address(function: Callable[..., Any], made_with: tuple[Any, ...], name: str, real: str, source: str = "") -> int:
    """Return the address of the version of a function for the dtypes that stand for "real" and "source"."""
    symbol = "_".join(filter(None, (name, real, source)))
    if LIBRARY is not None:
        built = LIBRARY.address(symbol)
        if built is not None:
            return built

    def compile_function(machine: Any) -> bytes:
        objects = importlib.import_module("..compiled.objects", __package__)
        code: bytes = objects.compile_declared(function, made_with, name, (real, source), machine)
        return code

    return on_demand.function_address(f"fastmlp_{symbol}", _captured_names(function), compile_function)


def kernel(
    *arguments: Argument, made_with: tuple[Any, ...] = (), result: Argument | None = None
) -> Callable[[Callable[..., Any]], Any]:
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

    def decorate(function: Callable[..., Any]) -> Any:
        name = _name(function, made_with)
        KERNELS[name] = Declared(function, arguments, result)
        if DISABLED or JITTED:
            return compiled_once(function)
        dtypes = tuple(versions(arguments))
        address = functools.partial(_address, function, made_with, name)
        return kernel_type()(name, arguments, result and result.element, dtypes, address)

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
        self._addresses: dict[str, int] = {}
        FUNCTION_POINTERS[self._name] = self

    @classmethod
    def made_with(cls, *values: Any, **options: Any) -> Callable[[Callable[..., Any]], function_pointer]:
        """Return the decorator for a function that another one makes with these arguments, see `kernel`."""
        return functools.partial(cls, made_with=values, **options)

    def address(self, dtype: Any) -> int:
        """Return the address of the version for ``dtype``, valid in this process and its forks."""
        name = str(dtype)
        if name not in self._addresses:
            self._addresses[name] = _address(self.function, self._made_with, self._name, name)
        return self._addresses[name]
