"""Packed folders of the cache: tables that are converted once, and mapped from then on."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy

from .._common.errors import DataError, DataWarning, warn_user
from .._common.memory import format_bytes
from ..io.array_files import map_npy
from ..io.files import atomic_write, try_lock
from .dataset import Dataset
from .fetch import data_folder
from .pack import LOCK, PACKING, pack
from .packed import FORMAT, is_packed, open_packed
from .shards import files_of, require_shards, source_files
from .source import target_file

__all__ = ["LARGE", "cache_folder", "is_large", "load_joined", "load_mapped"]

# Tables beyond this size are packed by the commands. Their reading would take several times as much memory.
LARGE = 1 << 25
_BLOCK = 1 << 24  # bytes of rows to write at once
_WAIT = 0.2  # seconds between two looks at a lock


def cache_folder() -> Path:
    """Return the folder of the packed folders: ``packed`` in the folder of the data sets, see `data_folder`."""
    return data_folder(None) / "packed"


def is_large(path: Path, *others: str | os.PathLike[str] | None) -> bool:
    """Return whether the commands pack a table before they map it: a folder of tables, or a file beyond `LARGE`.

    ``others`` are further tables that are read with it. An ``.npz`` file is not packed, since it cannot be read in
    parts.
    """
    tables = [path, *(Path(os.path.expanduser(other)) for other in others if other is not None)]
    if any(is_packed(table) for table in tables) or path.suffix.lower() == ".npz":
        return False
    return any(table.is_dir() or (table.is_file() and table.stat().st_size > LARGE) for table in tables)


def load_mapped(
    path: Path,
    *,
    announce: Callable[[str], None] = lambda text: warn_user(text, DataWarning),
    **options: Any,
) -> Dataset:
    """Pack a table into the cache folder, unless it is there, and map its arrays.

    Parameters
    ----------
    path : Path
        A table, or a folder of tables of one kind.
    announce : function of a str, optional
        Called with a sentence before the table is packed (default: a `DataWarning`).
    **options
        As for `pack`.

    Returns
    -------
    Dataset
        As `open_packed`, with the name of the table.

    Raises
    ------
    DataError
        As `pack`.
    OSError
        If the cache folder cannot be written to, or the disk is full.
    """

    def write(folder: Path) -> None:
        pack(path, folder, **options)

    return open_packed(_cached(path, options, announce, "", write), name=path.name)


def load_joined(
    folder: Path, announce: Callable[[str], None] = lambda text: warn_user(text, DataWarning)
) -> tuple[np.ndarray, np.ndarray | None]:
    """Map the arrays of a folder, which are joined in the cache folder, unless they are there.

    Parameters
    ----------
    folder : Path
        Folder of ``.npy`` files, which are joined in the order of their names.
    announce : function of a str, optional
        See `load_mapped`.

    Returns
    -------
    X : ndarray of shape (N, ...)
        Read-only and mapped.
    y : ndarray of shape (N, ...) or None
        Targets, if there is a file ``part_y.npy`` beside each ``part_X.npy``.

    Raises
    ------
    DataError
        If the folder has other tables, or arrays of different widths or dtypes.
    OSError
        If the cache folder cannot be written to, or the disk is full.
    """
    files = files_of(folder)
    require_shards(files)
    if files[0].suffix.lower() != ".npy":
        raise DataError(
            f"{folder} has {files[0].suffix} tables; expected .npy files. fastmlp.load reads such folders, and maps "
            "their arrays with mapped=True."
        )
    labels = [label for file in files if (label := target_file(file, None)) is not None]
    if labels and len(labels) != len(files):
        alone = next(file for file in files if target_file(file, None) is None)
        raise DataError(f"{alone} has no targets beside it; expected a name such as {alone.stem}_X.npy.")
    rows, targets = _arrays_to_join(files), _arrays_to_join(labels)
    if labels and sum(map(len, rows)) != sum(map(len, targets)):
        raise DataError(
            f"{folder} has {sum(map(len, targets))} targets in its files *_y.npy; expected {sum(map(len, rows))}, one "
            "for each row."
        )
    X, y = (_join(folder, kind, arrays, announce) for kind, arrays in (("X", rows), ("y", targets)))
    assert X is not None
    return X, y


def _join(folder: Path, kind: str, arrays: list[np.ndarray], announce: Callable[[str], None]) -> np.ndarray | None:
    """Return arrays one after the other in a mapped file; None if there are none."""
    if len(arrays) < 2:
        return arrays[0] if arrays else None
    return map_npy(_cached(folder, {"joined": kind}, announce, ".npy", functools.partial(_write_joined, arrays)))


def _arrays_to_join(files: Sequence[Path]) -> list[np.ndarray]:
    """Map arrays; raise DataError if they differ by more than the number of rows."""
    arrays = [map_npy(file) for file in files]
    for file, array in zip(files, arrays, strict=True):
        if (array.shape[1:], array.dtype) != (arrays[0].shape[1:], arrays[0].dtype):
            expected = ", ".join(["N", *map(str, arrays[0].shape[1:])])
            raise DataError(
                f"{file} has shape {array.shape} and dtype {array.dtype}; expected ({expected}) and "
                f"{arrays[0].dtype} as in {files[0]}."
            )
    return arrays


def _write_joined(arrays: Sequence[np.ndarray], path: Path) -> None:
    shape = (sum(map(len, arrays)), *arrays[0].shape[1:])
    header = {"shape": shape, "fortran_order": False, "descr": npy.dtype_to_descr(arrays[0].dtype)}
    with atomic_write(path) as stream:
        npy.write_array_header_1_0(stream, header)
        for array in arrays:
            step = max(1, _BLOCK // max(1, array[:1].nbytes))
            for start in range(0, len(array), step):
                stream.write(np.ascontiguousarray(array[start : start + step]).data.cast("B"))


def _cached(
    path: Path, options: dict[str, Any], announce: Callable[[str], None], suffix: str, write: Callable[[Path], None]
) -> Path:
    """Return the entry of the cache for a table and options, after ``write`` has written it if it is not there."""
    place, version, size = _identify(path, options)
    root = cache_folder()
    stem = re.sub(r"[^\w.-]", "_", path.resolve().stem)[:40]
    name = f"{stem}-{place}-{version}"
    entry = root / f"{name}{suffix}"
    if entry.exists():
        return entry
    root.mkdir(parents=True, exist_ok=True)
    with _locked(root / f"{name}.lock", lambda: announce(f"{path} is being packed by another process.")):
        if not entry.exists():
            _remove_others(root.glob(f"{stem}-{place}-*"), name)
            announce(
                f"{path} ({format_bytes(size)}) is packed into {entry}, which is mapped from now on; it can be deleted "
                "when it is not in use."
            )
            write(entry)
    return entry


def _remove_others(folders: Iterable[Path], kept: str) -> None:
    """Remove the entries of a table before it changed, except for one that another process is writing."""
    for old in folders:
        if old.name.startswith(kept) or old.suffix == ".lock":
            continue
        if old.name.endswith(PACKING):
            lock = try_lock(old / LOCK)
            if lock is None:
                continue
            lock.close()
        if old.is_dir():
            shutil.rmtree(old, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):
                old.unlink()


def _identify(path: Path, options: dict[str, Any]) -> tuple[str, str, int]:
    """Return digests of the names of the files with the options, and of their sizes and times; and all bytes."""
    tables = [(path, options.get("target"))]
    if options.get("test") is not None:
        tables.append((Path(os.path.expanduser(options["test"])), None))
    files = [file.resolve() for table, target in tables for file in source_files(table, target) if file.is_file()]
    found = [file.stat() for file in files]
    place = [FORMAT, [str(table.resolve()) for table, _ in tables], {key: options[key] for key in sorted(options)}]
    version = [(str(file), one.st_size, one.st_mtime_ns) for file, one in zip(files, found, strict=True)]
    return _digest(place), _digest(version), sum(one.st_size for one in found)


def _digest(value: Any) -> str:
    return hashlib.blake2b(json.dumps(value, default=str).encode(), digest_size=6).hexdigest()


@contextlib.contextmanager
def _locked(path: Path, wait: Callable[[], None]) -> Iterator[None]:
    """Hold the lock of a file; ``wait`` is called once if another process holds it."""
    lock = try_lock(path)
    if lock is None:
        wait()
    while lock is None:
        time.sleep(_WAIT)
        lock = try_lock(path)
    try:
        yield
    finally:
        lock.close()
        with contextlib.suppress(OSError):
            path.unlink()
