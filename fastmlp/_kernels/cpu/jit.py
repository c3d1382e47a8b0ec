"""How kernels are compiled and cached: the one place for jit options."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
from numba.core.caching import FunctionCache

from .host import VECTOR_BYTES

__all__ = ["inline", "kernel", "shared"]

_OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy", "boundscheck": False}


def _fingerprint() -> str:
    """Hash of every kernel source: numba itself hashes only the file of the function that it caches."""
    digest = hashlib.blake2b(digest_size=16)
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return f"{digest.hexdigest()}-{VECTOR_BYTES}"


_FINGERPRINT = _fingerprint()


class _KernelCache(FunctionCache):
    """numba's on-disk cache, keyed by all kernel sources and the vector width.

    numba's own key holds a pickle of what a function's closure captures, which for a compiled function
    is another one in each process. Here the names will do: the fingerprint covers their sources.
    """

    def _index_key(self, sig: Any, codegen: Any) -> Any:
        captured = tuple(cell.cell_contents.__name__ for cell in self._py_func.__closure__ or ())
        return sig, codegen.magic_tuple(), captured, _FINGERPRINT

    def save_overload(self, sig: Any, data: Any) -> None:
        try:
            super().save_overload(sig, data)
        except OSError:  # a full disk or a read-only folder costs a compilation next time, no more
            self.disable()


def kernel(function: Callable[..., Any]) -> Callable[..., Any]:
    """An entry point: compiled once for each dtype, without the GIL, cached on disk where possible."""
    compiled = numba.njit(**_OPTIONS)(function)
    if numba.config.DISABLE_JIT:
        return compiled
    try:
        compiled._cache = _KernelCache(function)
    except RuntimeError:  # numba found no folder that it can write to
        pass
    return compiled


def shared(function: Callable[..., Any]) -> Callable[..., Any]:
    """A large part of several kernels: compiled once in a process, then linked into each."""
    return numba.njit(**_OPTIONS)(function)


def inline(function: Callable[..., Any]) -> Callable[..., Any]:
    """A small part of kernels, pasted into each of them before it is typed: never compiled by itself.

    LLVM's inlining would do as well for speed, but each part would first be optimised as a library of
    its own: twice the time of a first run.
    """
    return numba.njit(inline="always", **_OPTIONS)(function)
