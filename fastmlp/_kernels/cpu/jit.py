"""How kernels are compiled and cached: the one place for jit options."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
from numba.core import types
from numba.core.caching import FunctionCache, IndexDataCacheFile
from numba.core.ccallback import CFunc
from numba.core.compiler import Compiler
from numba.core.runtime import rtsys

from ..kept import MARK, Kept, fingerprint
from ..quick import quickly
from .host import VECTOR_BYTES

__all__ = ["VERSION", "addressed", "cache_files", "inline", "kernel", "shared"]

_OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy", "boundscheck": False}


_HERE = Path(__file__).parent

# What the bits of results depend on.
VERSION = f"{fingerprint(_HERE)}, {VECTOR_BYTES}-byte vectors, numba {numba.__version__}"


class _Compiler(Compiler):
    """Numba's, in some two thirds of the time for functions that are made of many `inline` ones."""

    def define_pipelines(self) -> Any:
        from .pasting import with_pasting  # and half of Numba with it, which nobody needs who finds all kernels kept

        return [with_pasting(one) for one in super().define_pipelines()]

    def compile_extra(self, func: Any) -> Any:
        with quickly():
            return super().compile_extra(func)


class _Loading(FunctionCache):
    """Loads kernels as they are, without what the compiler has to know first: half a second, some hundred modules."""

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        if not hasattr(self, "_load_overload"):  # another Numba's
            return super().load_overload(sig, target_context)
        rtsys.initialize(target_context)  # kernels with arrays count references to them
        with self._guard_against_spurious_io_errors():
            return self._load_overload(sig, target_context)


class _KernelCache(Kept, _Loading):
    """numba's own key holds a pickle of what a function's closure captures, which for a compiled function is another
    one in each process. Here the names will do: the file's name covers their sources."""

    folder, files = _HERE, IndexDataCacheFile

    def _index_key(self, sig: Any, codegen: Any) -> Any:
        captured = tuple(cell.cell_contents.__name__ for cell in self._py_func.__closure__ or ())
        return sig, codegen.magic_tuple(), captured, VECTOR_BYTES


def cache_files() -> tuple[Path | None, list[Path]]:
    """The folder where kernels are kept, None where there is none to write to, and the files in it."""
    try:
        folder = Path(_KernelCache(cache_files).cache_path)
    except RuntimeError:
        return None, []
    return folder, sorted(folder.glob(f"*{MARK}*.nb[ic]"))


def kernel(function: Callable[..., Any]) -> Callable[..., Any]:
    """An entry point: compiled once for each dtype, without the GIL, cached on disk where possible."""
    compiled = numba.njit(pipeline_class=_Compiler, **_OPTIONS)(function)
    if numba.config.DISABLE_JIT:
        return compiled
    try:
        compiled._cache = _KernelCache(function)
    except RuntimeError:  # numba found no folder that it can write to
        pass
    return compiled


def shared(function: Callable[..., Any]) -> Callable[..., Any]:
    """A large part of several kernels: compiled once in a process, then linked into each."""
    return numba.njit(pipeline_class=_Compiler, **_OPTIONS)(function)


def inline(function: Callable[..., Any]) -> Callable[..., Any]:
    """A small part of kernels, pasted into each of them before it is typed: never compiled by itself.

    LLVM's inlining would do as well for speed, but each part would first be optimised as a library of
    its own: twice the time of a first run.
    """
    found = numba.njit(inline="always", **_OPTIONS)(function)
    if not numba.config.DISABLE_JIT:
        found.pasted = None
    return found


_COMPILING = threading.RLock()
_pointer: Any = types.CPointer  # type: ignore[attr-defined]


def _of_an_operation(real: Any) -> tuple[Any, ...]:
    return _pointer(real), _pointer(real), _pointer(types.int64), _pointer(types.float64), *3 * (types.int64,)


class addressed:
    """A function that compiled code calls by its address: void f(work, weights, table, numbers, first, last, extra).

    ``work`` and ``weights`` point to numbers of the model's dtype, ``table`` to int64, ``numbers`` to float64;
    the rest are int64. Or ``arguments`` gives Numba's types of others, from that of the dtype.
    Compiled when its address for a dtype is first asked for, and cached on disk.
    """

    def __init__(
        self, function: Callable[..., Any], arguments: Callable[[Any], tuple[Any, ...]] = _of_an_operation
    ) -> None:
        self.function, self._arguments = function, arguments
        self._compiled: dict[str, Any] = {}

    def address(self, dtype: Any) -> int:
        """Where the version for ``dtype`` is; valid in this process and its forks."""
        name = str(dtype)
        with _COMPILING:  # one version, however many threads ask first
            if name not in self._compiled:
                self._compile(name)
        return int(self._compiled[name].address)

    def _compile(self, name: str) -> None:
        signature = self._arguments(getattr(types, name)), types.void
        compiled: Any = CFunc(self.function, signature, locals={}, options=_OPTIONS, pipeline_class=_Compiler)
        with contextlib.suppress(RuntimeError):  # numba found no folder that it can write to
            compiled._cache = _KernelCache(self.function)
        compiled.compile()
        self._compiled[name] = compiled
