"""Compilation and disk caching of GPU kernels; the only module that sets options of `cuda.jit`."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import pickle
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
import numpy as np

from .kept import Kept
from .runtime import SIMULATED, cuda

__all__ = ["alone", "called", "described", "device", "kernel"]


def called(function: Callable[..., Any]) -> Any:
    """Compile a device function that is called, not forced inline."""
    return cuda.jit(device=True)(function)


def device(function: Callable[..., Any]) -> Any:
    """Compile a device function that is always inlined.

    A local array that is passed to a call by address is spilled from registers to local memory.
    """
    return cuda.jit(device=True)(function) if SIMULATED else cuda.jit(device=True, forceinline=True)(function)


def kernel(function: Callable[..., Any]) -> Any:
    """Compile a kernel once for each set of argument types and cache it on disk if possible."""
    return _kept(cuda.jit(function))


def alone(registers: int | None = None) -> Callable[[Callable[..., Any]], Any]:
    """Decorator for a large kernel that needs no linking; the linker would compile it twice to the same code.

    ``registers`` is the maximum number of registers per thread.
    """

    def make(function: Callable[..., Any]) -> Any:
        if SIMULATED:
            return cuda.jit(function)
        return _kept(cuda.jit(lto=False, max_registers=registers)(function), f"{registers} registers")

    return make


def _kept(compiled: Any, options: str = "") -> Any:
    """Attach the disk cache; ``options`` distinguishes kernels of the same function."""
    if not SIMULATED:
        # If Numba finds no writable folder, or the installed numba-cuda has no such class, caching is skipped.
        with contextlib.suppress(RuntimeError, ImportError, AttributeError):
            compiled._cache = _cache_class()(compiled.py_func, options)
    return compiled


def _cache_class() -> Any:
    if not _classes:
        base_files: Any = importlib.import_module("numba.cuda.core.caching").IndexDataCacheFile
        base: Any = importlib.import_module("numba.cuda.dispatcher").CUDACache
        version = importlib.import_module("numba_cuda").__version__

        class Files(base_files):
            """Cache files with zlib compression; a kernel's PTX takes megabytes and shrinks tenfold."""

            def _save_data(self, name: str, data: Any) -> None:
                with self._open_for_write(self._data_path(name)) as file:
                    file.write(zlib.compress(self._dump(data), 1))

            def _load_data(self, name: str) -> Any:
                return pickle.loads(zlib.decompress(Path(self._data_path(name)).read_bytes()))

        class KernelCache(Kept, base):
            """Kernel cache keyed by `described`; Numba's key pickles the closure, which differs between processes."""

            folder, files = Path(__file__).parent, Files

            def __init__(self, function: Any, options: str) -> None:
                super().__init__(function)
                self._described = described(function), options

            def _index_key(self, sig: Any, codegen: Any) -> Any:
                return sig, codegen.magic_tuple(), version, self._described

        _classes.append(KernelCache)
    return _classes[0]


_classes: list[Any] = []
_known: dict[int, tuple[Any, str]] = {}


def described(function: Callable[..., Any]) -> str:
    """Return a digest that identifies a function among the same sources: its location and its captured values."""
    kept = _known.get(id(function))
    if kept is None or kept[0] is not function:
        code: Any = function.__code__
        captured = [
            f"{name}={_value(cell.cell_contents)}"
            for name, cell in zip(code.co_freevars, getattr(function, "__closure__", None) or (), strict=True)
        ]
        constants = [value for value in code.co_consts[1:] if not hasattr(value, "co_code")]
        where = (Path(code.co_filename).name, code.co_firstlineno, function.__name__, code.co_code.hex(), constants)
        digest = hashlib.blake2b(repr((where, captured)).encode(), digest_size=16).hexdigest()
        kept = _known[id(function)] = (function, digest)
    return kept[1]


def _value(value: Any) -> str:
    plain = getattr(value, "py_func", value)
    if hasattr(plain, "__code__"):
        return described(plain)
    if isinstance(value, tuple):
        return f"{type(value).__name__}({', '.join(map(_value, value))})"
    if isinstance(value, (np.generic, np.dtype, int, float, str, type, type(None), numba.types.Type)):
        return f"{type(value).__name__} {value!r}"
    raise TypeError(f"A kernel captures {value!r}, which has no name that holds in other processes.")
