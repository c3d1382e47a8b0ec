"""How kernels are compiled and cached: the one place for jit options."""

from __future__ import annotations

import contextlib
import hashlib
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numba
from numba.core import types
from numba.core.caching import FunctionCache, IndexDataCacheFile
from numba.core.ccallback import CFunc

from .host import VECTOR_BYTES

__all__ = ["VERSION", "addressed", "cache_files", "inline", "kernel", "shared"]

_OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy", "boundscheck": False}


def _fingerprint() -> str:
    """Hash of every kernel source: numba itself hashes only the file of the function that it caches."""
    digest = hashlib.blake2b(digest_size=8)
    here = Path(__file__).parent
    for path in sorted([*here.glob("*.py"), *here.parent.glob("*.py")]):  # constants are compiled in from there
        digest.update(path.read_bytes())
    return digest.hexdigest()


# In the name of each cache file, so that those of other versions of the sources are known without opening them.
_MARK = ".fastmlp-"
_VERSION = f"{_MARK}{_fingerprint()}"

# What the bits of results depend on.
VERSION = f"{_fingerprint()}, {VECTOR_BYTES}-byte vectors, numba {numba.__version__}"


class _Files(IndexDataCacheFile):
    """numba's index and data files, with a data file's name made from its key.

    numba counts instead: two processes that add a version each at the same time take the same number, and
    then the one's code is found under the other's signature. Here the worst is that one entry is lost.
    """

    def save(self, key: Any, data: Any) -> None:
        digest = hashlib.blake2b(repr(key).encode(), digest_size=6).digest()
        name = self._data_name(int.from_bytes(digest, "big"))
        self._save_data(name, data)
        self._save_index({**self._load_index(), key: name})


class _KernelCache(FunctionCache):
    """numba's on-disk cache, with files of their own for each state of all kernel sources.

    numba's own key holds a pickle of what a function's closure captures, which for a compiled function
    is another one in each process. Here the names will do: the file's name covers their sources.
    """

    _swept: ClassVar[set[str]] = set()

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)
        stamp = self._impl.locator.get_source_stamp()
        self._cache_file = _Files(self.cache_path, self._impl.filename_base + _VERSION, stamp)

    def _index_key(self, sig: Any, codegen: Any) -> Any:
        captured = tuple(cell.cell_contents.__name__ for cell in self._py_func.__closure__ or ())
        return sig, codegen.magic_tuple(), captured, VECTOR_BYTES

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        try:
            return super().load_overload(sig, target_context)
        except Exception:  # unpickling a damaged file can raise anything; it is compiled again, and replaced
            with contextlib.suppress(OSError):
                self.flush()
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        try:
            self._sweep()  # first, as it makes room
            super().save_overload(sig, data)
        except OSError:  # a full disk or a read-only folder costs a compilation next time, no more
            self.disable()

    def _sweep(self) -> None:
        """Delete, once in a process, what other versions of the sources left in the folder.

        Their processes may be running still: one that misses a file compiles again.
        """
        if self.cache_path in self._swept:
            return
        self._swept.add(self.cache_path)
        for path in Path(self.cache_path).glob(f"*{_MARK}*.nb[ic]*"):
            if f"{_VERSION}." not in path.name:
                with contextlib.suppress(OSError):  # deleted by another process, in use, or not ours to delete
                    path.unlink()


def cache_files() -> tuple[Path | None, list[Path]]:
    """The folder where kernels are kept, None where there is none to write to, and the files in it."""
    try:
        folder = Path(_KernelCache(_fingerprint).cache_path)
    except RuntimeError:
        return None, []
    return folder, sorted(folder.glob(f"*{_MARK}*.nb[ic]"))


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


_COMPILING = threading.RLock()


class addressed:
    """A function that compiled code calls by its address: void f(work, weights, table, numbers, first, last, extra).

    ``work`` and ``weights`` point to numbers of the model's dtype, ``table`` to int64, ``numbers`` to float64;
    the rest are int64. Compiled when its address for a dtype is first asked for, and cached on disk.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self._compiled: dict[str, Any] = {}

    def address(self, dtype: Any) -> int:
        """Where the version for ``dtype`` is; valid in this process and its forks."""
        name = str(dtype)
        with _COMPILING:  # one version, however many threads ask first
            if name not in self._compiled:
                self._compile(name)
        return int(self._compiled[name].address)

    def _compile(self, name: str) -> None:
        pointer: Any = types.CPointer  # type: ignore[attr-defined]
        real = pointer(getattr(types, name))
        arguments = (real, real, pointer(types.int64), pointer(types.float64), *3 * (types.int64,))
        compiled: Any = CFunc(self.function, (arguments, types.void), locals={}, options=_OPTIONS)
        with contextlib.suppress(RuntimeError):  # numba found no folder that it can write to
            compiled._cache = _KernelCache(self.function)
        compiled.compile()
        self._compiled[name] = compiled
