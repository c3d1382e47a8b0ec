"""Packed folders of the cache: tables that are converted once, and mapped from then on."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from .._common.errors import DataWarning, warn_user
from .._common.memory import format_bytes
from ..io.files import try_lock
from .dataset import Dataset
from .fetch import data_folder
from .pack import LOCK, PACKING, pack
from .packed import FORMAT, is_packed, open_packed
from .shards import source_files

__all__ = ["LARGE", "cache_folder", "is_large", "load_mapped"]

# Tables beyond this size are packed by the commands. Their reading would take several times as much memory.
LARGE = 1 << 25
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
    place, version, size = _identify(path, options)
    root = cache_folder()
    stem = re.sub(r"[^\w.-]", "_", path.stem)[:40]
    folder = root / f"{stem}-{place}-{version}"
    if not is_packed(folder):
        root.mkdir(parents=True, exist_ok=True)
        with _locked(root / f"{folder.name}.lock", lambda: announce(f"{path} is being packed by another process.")):
            if not is_packed(folder):
                _remove_others(root.glob(f"{stem}-{place}-*"), folder.name)
                announce(
                    f"{path} ({format_bytes(size)}) is packed into {folder}, which is mapped from now on; the folder "
                    "can be deleted when it is not in use."
                )
                pack(path, folder, **options)
    return open_packed(folder, name=path.name)


def _remove_others(folders: Iterable[Path], kept: str) -> None:
    """Remove the packed folders of a table before it changed, except for one that another process is writing."""
    for old in folders:
        if not old.is_dir() or old.name.startswith(kept):
            continue
        if old.name.endswith(PACKING):
            lock = try_lock(old / LOCK)
            if lock is None:
                continue
            lock.close()
        shutil.rmtree(old, ignore_errors=True)


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
