"""Compilation and caching of kernels; all jit options are set here."""

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

# Everything that the bits of results depend on.
VERSION = f"{fingerprint(_HERE)}, {VECTOR_BYTES}-byte vectors, numba {numba.__version__}"


class _Compiler(Compiler):
    """Numba compiler that takes about a third less time for functions with many `inline` parts."""

    def define_pipelines(self) -> Any:
        from .pasting import with_pasting  # imports half of Numba; not needed if all kernels are cached

        return [with_pasting(one) for one in super().define_pipelines()]

    def compile_extra(self, func: Any) -> Any:
        with quickly():
            return super().compile_extra(func)


class _Loading(FunctionCache):
    """Cache that loads kernels without the initialization of the compiler: half a second, some hundred modules."""

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        if not hasattr(self, "_load_overload"):  # not in this version of Numba
            return super().load_overload(sig, target_context)
        rtsys.initialize(target_context)  # kernels with arrays count references to them
        with self._guard_against_spurious_io_errors():
            return self._load_overload(sig, target_context)


class _KernelCache(Kept, _Loading):
    """Kernel cache whose keys are valid across processes.

    Numba's own key contains a pickle of the values captured by a function's closure. The pickle of a compiled function
    differs between processes. Names suffice as a key here, because the file's name covers the sources of the named
    functions.
    """

    folder, files = _HERE, IndexDataCacheFile

    def _index_key(self, sig: Any, codegen: Any) -> Any:
        captured = tuple(cell.cell_contents.__name__ for cell in self._py_func.__closure__ or ())
        return sig, codegen.magic_tuple(), captured, VECTOR_BYTES


def cache_files() -> tuple[Path | None, list[Path]]:
    """Return the folder of cached kernels (None if no folder is writable) and the files in it."""
    try:
        folder = Path(_KernelCache(cache_files).cache_path)
    except RuntimeError:
        return None, []
    return folder, sorted(folder.glob(f"*{MARK}*.nb[ic]"))


def kernel(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile an entry point once per dtype, without the GIL, with an on-disk cache if possible."""
    compiled = numba.njit(pipeline_class=_Compiler, **_OPTIONS)(function)
    if numba.config.DISABLE_JIT:
        return compiled
    try:
        compiled._cache = _KernelCache(function)
    except RuntimeError:  # numba found no writable folder
        pass
    return compiled


def shared(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a large part of several kernels once in a process and link it into each of them."""
    return numba.njit(pipeline_class=_Compiler, **_OPTIONS)(function)


def inline(function: Callable[..., Any]) -> Callable[..., Any]:
    """Mark a small part of kernels for inlining before type inference; it is never compiled on its own.

    LLVM's inlining would give the same speed. However, each part would first be optimized as a library of its own,
    which doubles the time of a first run.
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
    """Function that compiled code calls by its address: void f(work, weights, table, numbers, first, last, extra).

    ``work`` and ``weights`` point to numbers of the model's dtype, ``table`` to int64, ``numbers`` to float64. The
    other parameters are int64. For a different signature, ``arguments`` maps the dtype to the Numba types of the
    parameters. The function is compiled on the first request of its address for a dtype, and cached on disk.
    """

    def __init__(
        self, function: Callable[..., Any], arguments: Callable[[Any], tuple[Any, ...]] = _of_an_operation
    ) -> None:
        self.function, self._arguments = function, arguments
        self._compiled: dict[str, Any] = {}

    def address(self, dtype: Any) -> int:
        """Return the address of the version for ``dtype``, valid in this process and its forks."""
        name = str(dtype)
        with _COMPILING:  # concurrent first requests must compile only one version
            if name not in self._compiled:
                self._compile(name)
        return int(self._compiled[name].address)

    def _compile(self, name: str) -> None:
        signature = self._arguments(getattr(types, name)), types.void
        compiled: Any = CFunc(self.function, signature, locals={}, options=_OPTIONS, pipeline_class=_Compiler)
        with contextlib.suppress(RuntimeError):  # numba found no writable folder
            compiled._cache = _KernelCache(self.function)
        compiled.compile()
        self._compiled[name] = compiled
