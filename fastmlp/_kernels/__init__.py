"""Backend selection.

A backend is a module with the functions of `reference`. `use_backend` sets a context variable, so its choice holds for
the current thread or task. Layers and losses read the choice once, at construction.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
import importlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

from .._common.errors import BackendError
from .._common.installed import is_installed

__all__ = [
    "BACKENDS",
    "PRECISIONS",
    "cache_files",
    "compiles",
    "get_backend",
    "set_backend",
    "use_backend",
    "watch_compilation",
]

# name: (module, required package, install command)
BACKENDS = {
    "numpy": ("reference", "numpy", "pip install numpy"),
    "numba": ("cpu.backend", "numba", "pip install numba"),
    "cuda": ("cuda.backend", "numba_cuda", "pip install 'fastmlp[cuda]'"),
}
DEFAULT, WITHOUT_NUMBA = "numba", "numpy"
# Precisions of the products of Linear layers; all except the first need a GPU's tensor cores.
PRECISIONS = ("float32", "bf16x6", "tf32", "bf16")

_current: contextvars.ContextVar[str | None] = contextvars.ContextVar("fastmlp_backend", default=None)
_process_wide: str | None = None


def get_backend(name: str | None = None, precision: str = PRECISIONS[0]) -> ModuleType:
    """Return the backend called ``name``, or the current backend, with its products in the given precision.

    The current backend is that of `use_backend`, else of `set_backend`, else of the environment variable
    ``FASTMLP_BACKEND``, else ``"numba"``, or ``"numpy"`` where numba is not installed.

    Parameters
    ----------
    name : {"numba", "numpy", "cuda"}, optional
    precision : {"float32", "bf16x6", "tf32", "bf16"}
        Precision of matrix products; all but float32 need a GPU with tensor cores.

    Returns
    -------
    module
        Kernels with the names and signatures of the NumPy reference.

    Raises
    ------
    BackendError
        If the backend or the precision does not exist, if the backend does not support the precision, or if the
        required package or GPU is missing.

    Examples
    --------
    >>> import fastmlp as fm
    >>> fm.get_backend("numpy").__name__
    'fastmlp._kernels.reference'
    """
    if name is None:
        name = _current.get() or _process_wide or os.environ.get("FASTMLP_BACKEND") or _default()
    if name not in BACKENDS:
        raise BackendError(f"There is no backend {name!r}; expected one of {', '.join(map(repr, BACKENDS))}.")
    if precision not in PRECISIONS:
        expected = ", ".join(map(repr, PRECISIONS))
        raise BackendError(f"There is no precision {precision!r}; expected one of {expected}.")
    if precision != PRECISIONS[0] and name != "cuda":
        raise BackendError(f"The precision {precision!r} needs the backend 'cuda'; this is {name!r}.")
    module, package, remedy = BACKENDS[name]
    # The result of `_has_library` is kept, while `is_installed` searches the import path each time.
    if not (name == DEFAULT and _has_library()) and not is_installed(package):
        raise BackendError(f"The backend {name!r} needs {package}, which is not installed: {remedy}.")
    backend = importlib.import_module(f".{module}", __name__)
    if name == "cuda":
        backend.check(precision)
        backend = backend.with_precision(precision)
    return backend


@functools.cache
def _has_library() -> bool:
    """Return whether the compiled library has the kernels for this processor, so that Numba is not needed."""
    library = importlib.import_module(".compiled.library", __name__)
    if library.host_level() is None:
        return False
    return library.library(importlib.import_module(".cpu.host", __name__).VECTOR_BYTES) is not None


def compiles() -> bool:
    """Return whether Numba compiles the kernels of the backend "numba" in this process, when they are first used."""
    jit = importlib.import_module(".cpu.jit", __name__)
    return jit.LIBRARY is None and not jit.DISABLED


def cache_files() -> tuple[Path | None, list[Path]]:
    """Return the folder of compiled kernels (None if no folder is writable) and the files in it."""
    found: tuple[Path | None, list[Path]] = importlib.import_module(".compiled.object_files", __name__).cache_files()
    return found


@contextlib.contextmanager
def watch_compilation(started: Callable[[str], None]) -> Iterator[None]:
    """Call ``started`` with the name of each function that is compiled inside the block, before its compilation."""
    with importlib.import_module(".compiled.on_demand", __name__).watch_compilation(started):
        yield


def _default() -> str:
    """Return the default backend: numba, or numpy for an installation that has no compiled kernels and no Numba."""
    return DEFAULT if _has_library() or is_installed(BACKENDS[DEFAULT][1]) else WITHOUT_NUMBA


def set_backend(name: str) -> None:
    """Make ``name`` the backend of modules constructed from now on, in every thread of the process.

    Parameters
    ----------
    name : {"numba", "numpy", "cuda"}

    Raises
    ------
    BackendError
        As `get_backend`; the previous choice stays in effect.

    Examples
    --------
    >>> import fastmlp as fm
    >>> fm.set_backend("numpy")
    >>> fm.get_backend().__name__
    'fastmlp._kernels.reference'
    >>> fm.set_backend("numba")
    """
    global _process_wide
    get_backend(name)
    _process_wide = name


@contextlib.contextmanager
def use_backend(name: str) -> Iterator[ModuleType]:
    """Make ``name`` the backend of modules constructed inside the ``with`` block, in this thread or task.

    Parameters
    ----------
    name : {"numba", "numpy", "cuda"}

    Raises
    ------
    BackendError
        As `get_backend`.

    Examples
    --------
    >>> import fastmlp as fm
    >>> with fm.use_backend("numpy"):
    ...     model = fm.MLP(4, [8], 2, rng=0)  # its forward and backward run in NumPy
    """
    backend = get_backend(name)
    token = _current.set(name)
    try:
        yield backend
    finally:
        _current.reset(token)
