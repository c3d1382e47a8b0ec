"""Kernels that Numba compiled in earlier processes, on disk: one object file for each compiled function."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib
import os
import tempfile
import time
from pathlib import Path

from .library import FOLDER

__all__ = ["cache_files", "cache_folder", "load_object", "save_object"]

_PATTERN = "fastmlp_*.o"
_DIGEST = 16  # bytes
_UNFINISHED = 600  # seconds that the writing of a file may take
_swept: set[Path] = set()


def cache_folder() -> Path | None:
    """Return the folder of object files, or None if none can be written to.

    That is a folder in that of the environment variable ``NUMBA_CACHE_DIR``, else ``__pycache__`` beside this file,
    else a folder in the user's cache.
    """
    return _first_writable(os.environ.get("NUMBA_CACHE_DIR", ""))


@functools.cache
def _first_writable(chosen: str) -> Path | None:
    own = f"fastmlp_{hashlib.blake2b(bytes(FOLDER), digest_size=8).hexdigest()}"  # each installation has its folder
    if chosen:
        folders = [Path(chosen) / own]
    else:
        folders = [FOLDER / "__pycache__"]
        with contextlib.suppress(ImportError):
            folders.append(Path(importlib.import_module("pooch").os_cache("fastmlp")) / "kernels" / own)
    for folder in folders:
        with contextlib.suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                return folder
    return None


def cache_files() -> tuple[Path | None, list[Path]]:
    """Return the folder of object files (None if no folder is writable) and the files in it."""
    folder = cache_folder()
    return folder, sorted(folder.glob(_PATTERN)) if folder else []


def _digest(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=_DIGEST).digest()


def _path(folder: Path, symbol: str, sources: str, key: str) -> Path:
    return folder / f"{symbol}.{sources}.{hashlib.blake2b(key.encode(), digest_size=8).hexdigest()}.o"


def load_object(symbol: str, sources: str, key: str) -> bytes | None:
    """Return the object code of a function, or None if there is no whole file of it.

    Parameters
    ----------
    symbol : str
        Name of the function in the object file.
    sources : str
        Fingerprint of the sources.
    key : str
        Everything else that the object code depends on.
    """
    folder = cache_folder()
    if folder is None:
        return None
    try:
        content = _path(folder, symbol, sources, key).read_bytes()
    except OSError:
        return None
    # Damaged code would end the process.
    return content[_DIGEST:] if _digest(content[_DIGEST:]) == content[:_DIGEST] else None


def save_object(symbol: str, sources: str, key: str, code: bytes) -> None:
    """Keep the object code of a function for other processes, if that is possible.

    A full disk or a folder that became read-only costs a compilation in the next process, no more.
    """
    folder = cache_folder()
    if folder is None:
        return
    with contextlib.suppress(OSError):
        _sweep(folder, sources)  # first, as it makes room
        with tempfile.NamedTemporaryFile(dir=folder, prefix="fastmlp_", suffix=".tmp", delete=False) as file:
            try:
                file.write(_digest(code) + code)
                file.close()  # Windows renames closed files only
                os.replace(file.name, _path(folder, symbol, sources, key))
            except BaseException:
                Path(file.name).unlink(missing_ok=True)
                raise


def _sweep(folder: Path, sources: str) -> None:
    """Delete, once in a process, the files of other versions of the sources, and those of processes that were killed.

    Processes with other versions that are still running compile missing kernels again.
    """
    if folder in _swept:
        return
    _swept.add(folder)
    stale = [path for path in folder.glob(_PATTERN) if f".{sources}." not in path.name]
    for path in (*stale, *folder.glob("fastmlp_*.tmp")):
        with contextlib.suppress(OSError):  # deleted by another process, in use, or not ours to delete
            if path.suffix != ".tmp" or time.time() - path.stat().st_mtime > _UNFINISHED:
                path.unlink()
