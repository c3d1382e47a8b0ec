"""How kernels are compiled and cached: the one place for jit options."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
from numba.core.caching import FunctionCache

from .host import VECTOR_BYTES

__all__ = ["inline", "kernel"]

_OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy", "boundscheck": False}


def _fingerprint() -> str:
    """Hash of every kernel source: numba itself hashes only the file of the function that it caches."""
    digest = hashlib.blake2b(digest_size=16)
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return f"{digest.hexdigest()}-{VECTOR_BYTES}"


_FINGERPRINT = _fingerprint()


class _KernelCache(FunctionCache):
    """numba's on-disk cache, keyed also by all kernel sources and the vector width."""

    def _index_key(self, sig: Any, codegen: Any) -> Any:
        return (*super()._index_key(sig, codegen), _FINGERPRINT)

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


def inline(function: Callable[..., Any]) -> Callable[..., Any]:
    """A part of kernels: inlined into each of them, never cached by itself."""
    return numba.njit(forceinline=True, **_OPTIONS)(function)
