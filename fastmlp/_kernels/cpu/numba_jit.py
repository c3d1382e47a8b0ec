"""Compilation of kernels by Numba, and their cache on disk; all options are set here."""

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

from ..kept import MARK, Kept
from .host import VECTOR_BYTES

__all__ = [
    "OPTIONS",
    "KernelCompiler",
    "CompiledFunctionPointer",
    "cache_files",
    "compile_inline",
    "compile_kernel",
    "compile_once",
]

OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy", "boundscheck": False}

_HERE = Path(__file__).parent


class KernelCompiler(Compiler):
    """Numba compiler with `inline_pass`, which takes about a third less time for functions with many inline parts.

    If `inline_pass` cannot be imported with the installed Numba, Numba inlines the parts.
    """

    def define_pipelines(self) -> Any:
        passes = super().define_pipelines()
        try:
            from .inline_pass import with_inline_pass  # imports half of Numba; not needed if all kernels are cached
        except (AttributeError, ImportError):
            return passes
        return [with_inline_pass(one) for one in passes]


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
        values = (cell.cell_contents for cell in self._py_func.__closure__ or ())
        captured = tuple(getattr(value, "__name__", value) for value in values)
        return sig, codegen.magic_tuple(), captured, VECTOR_BYTES


def cache_files() -> tuple[Path | None, list[Path]]:
    """Return the folder of cached kernels (None if no folder is writable) and the files in it."""
    try:
        folder = Path(_KernelCache(cache_files).cache_path)
    except RuntimeError:
        return None, []
    return folder, sorted(folder.glob(f"*{MARK}*.nb[ic]"))


def compile_kernel(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile an entry point once per dtype, without the GIL, with an on-disk cache if possible."""
    compiled = numba.njit(pipeline_class=KernelCompiler, **OPTIONS)(function)
    if numba.config.DISABLE_JIT:
        return compiled
    with contextlib.suppress(RuntimeError):  # numba found no writable folder
        compiled._cache = _KernelCache(function)
    return compiled


def compile_once(function: Callable[..., Any]) -> Any:
    """Compile a function that other compiled functions call."""
    return numba.njit(pipeline_class=KernelCompiler, **OPTIONS)(function)


def compile_inline(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a function in each of its callers, before type inference.

    LLVM's inlining would give the same speed. However, each part would first be optimized as a library of its own,
    which doubles the time of a first run.
    """
    found = numba.njit(inline="always", **OPTIONS)(function)
    if not numba.config.DISABLE_JIT:
        found.untyped_code = None
    return found


_COMPILING = threading.RLock()
_POINTERS = {
    name: types.CPointer(getattr(types, name))  # type: ignore[attr-defined]
    for name in ("float32", "float64", "int64")
}


class CompiledFunctionPointer:
    """C function that Numba compiles when its address is first asked for, with a version for each dtype.

    Parameters
    ----------
    function : function
    arguments : sequence of str
        See `jit.function_pointer`.
    """

    def __init__(self, function: Callable[..., Any], arguments: tuple[str, ...]) -> None:
        self.function, self._arguments = function, arguments
        self._compiled: dict[str, Any] = {}

    def signature(self, dtype: str) -> Any:
        """Return the signature of the version for a dtype."""
        found = (argument.replace("real", dtype) for argument in self._arguments)
        return types.void(*(_POINTERS[one[:-1]] if one.endswith("*") else getattr(types, one) for one in found))

    def address(self, dtype: str) -> int:
        """Return the address of the version for a dtype, valid in this process and its forks."""
        with _COMPILING:  # concurrent first requests must compile only one version
            if dtype not in self._compiled:
                signature = self.signature(dtype)
                compiled: Any = CFunc(
                    self.function,
                    (signature.args, types.void),
                    locals={},
                    options=OPTIONS,
                    pipeline_class=KernelCompiler,
                )
                with contextlib.suppress(RuntimeError):  # numba found no writable folder
                    compiled._cache = _KernelCache(self.function)
                compiled.compile()
                self._compiled[dtype] = compiled
        return int(self._compiled[dtype].address)
