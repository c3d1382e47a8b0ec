"""Packing of tables of any size: conversion to the arrays that training reads, chunk by chunk."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
from numpy.lib import format as npy

from .._common.digests import BLOCK, BlockDigests, array_digests
from .._common.errors import DataError
from ..io.array_files import map_npy
from ..io.files import atomic_write, try_lock
from ..io.scratch import SCRATCH, scratch_in
from .categories import UnknownValues
from .chunk_plan import ChunkPlan, dtype_of_targets, encode_chunk, make_plan, numbered_chunks
from .chunks import Chunk, ChunkedTable, open_tables
from .dialect import validate_format
from .packed import ARRAYS, DESCRIPTION, FORMAT, describe_array, is_packed

__all__ = ["LOCK", "PACKING", "pack"]

_PROGRESS = "packing.json"
_READ = 1 << 20
_ROWS = 1 << 20  # targets that are converted at once
LOCK = "lock"
PACKING = ".packing"  # end of the name of an unfinished folder
_PARTS = ("train", "test")


def pack(
    path: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    target: str | int | None = None,
    categorical: Literal["auto"] | Sequence[str | int] = "auto",
    drop: Sequence[str | int] = (),
    index: bool | None = None,
    header: bool | None = None,
    separator: str | None = None,
    decimal: Literal[".", ","] | None = None,
    test: str | os.PathLike[str] | None = None,
    test_size: float = 0.2,
    seed: int = 0,
    task: str = "auto",
    dtype: str = "float32",
    progress: Callable[[str], None] = lambda line: None,
) -> Path:
    """Convert a table of any size to a folder of arrays, which `load` maps instead of reading them.

    The arrays and the preprocessing are those of `load`. Beyond `fitting.SAMPLE_CELLS` cells, medians are those of
    evenly distributed rows. The table is read up to three times: for the targets and the types of the columns, for the
    statistics of the training part, and for the conversion.

    Parameters
    ----------
    path : path-like
        A ``.csv``, ``.tsv``, ``.parquet``, ``.npy`` or ``.npz`` file, or a folder of such files of one kind, which are
        read in the order of their names. Each ``.npy`` file of a folder has its targets in ``<stem>_y.npy`` beside
        ``<stem>_X.npy`` or in a column, or ``target="labels.npy"`` has those of all files.
    out : path-like
        The folder. It must not exist; it appears when it is complete. An interrupted call leaves ``<out>.packing``,
        with which the same call goes on.
    target, categorical, drop, index, header, separator, decimal, test, test_size, seed, task, dtype
        See `load`. ``test`` may be a folder too.
    progress : function of a str, optional
        Called with a line after each stage.

    Returns
    -------
    Path
        ``out``.

    Raises
    ------
    DataError
        If ``out`` exists, or a table is damaged, changes meanwhile, or does not fit an option. The message names the
        file.
    OSError
        If the disk is full, or a file cannot be written.

    Examples
    --------
    >>> import fastmlp as fm
    >>> folder = fm.datasets.pack("people.csv", "people")  # doctest: +SKIP
    >>> X, y, X_test, y_test = fm.load(folder)  # doctest: +SKIP
    """
    if dtype not in ("float32", "float64"):
        raise DataError(f"dtype is {dtype!r}; expected 'float32' or 'float64'.")
    table, folder = Path(os.path.expanduser(path)), Path(os.path.expanduser(out))
    if folder.exists() or folder.is_symlink():
        packed = " (a packed folder)" if is_packed(folder) else ""
        raise DataError(f"{folder} exists{packed}; expected the name of a new folder.")
    given = validate_format(header, separator, decimal)
    source, held_out = open_tables(table, target, test, given)
    options = {
        "target": target, "categorical": categorical if categorical == "auto" else list(categorical),
        "drop": list(drop) if not isinstance(drop, (str, int)) else drop, "index": index, "format": list(given),
        "test_size": test_size, "seed": seed, "task": task, "dtype": dtype,
    }  # fmt: skip
    with _Packing(folder, [source, *([] if held_out is None else [held_out])], options) as packing:
        if packing.resumed:
            progress(f"going on with {packing.folder}, which an earlier run left")
        else:
            plan = make_plan(
                source, held_out, categorical=categorical, drop=drop, index=index, test_size=test_size, seed=seed,
                task=task, dtype=dtype, center_target=True, progress=progress, empty=scratch_in(packing.folder),
            )  # fmt: skip
            packing.begin(plan)
            del plan
        packing.write(progress)
        packing.finish()
    return folder


class _Packing:
    """Unfinished folder, beside the final one: its files grow chunk by chunk, and a file of progress is replaced.

    As a context manager it holds a lock, and removes a folder that has nothing to go on with.
    """

    def __init__(self, final: Path, tables: list[ChunkedTable], options: dict[str, Any]) -> None:
        self._final, self._tables = final, tables
        self.folder = final.with_name(f"{final.name}{PACKING}")
        self._identity = json.loads(json.dumps({"files": self._files(), "options": options, "format": FORMAT}))
        self._state: dict[str, Any] = {}
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = try_lock(self.folder / LOCK)
        if lock is None:
            raise DataError(f"{self.folder} is in use by another process that packs; expected another folder.")
        self._lock = lock
        self.resumed = self._read_progress()

    def __enter__(self) -> _Packing:
        return self

    def __exit__(self, *error: object) -> None:
        self._lock.close()  # Windows deletes closed files only
        with contextlib.suppress(OSError):  # the folder has its final name, or files to go on with
            (self.folder / LOCK).unlink()
            self.folder.rmdir()

    def _files(self) -> list[list[Any]]:
        """Return what tells whether the tables have changed."""
        found = []
        for table in self._tables:
            for file in table.sources:
                status = file.stat()
                found.append([str(file.resolve()), status.st_size, status.st_mtime_ns])
        return found

    def _read_progress(self) -> bool:
        try:
            state = json.loads((self.folder / _PROGRESS).read_text(encoding="utf-8"))
            if state["identity"] != self._identity:
                return False
            for part, size in zip(_PARTS, state["sizes"], strict=True):
                np.load(self.folder / f"y_{part}.npy", mmap_mode="r")
                if size and (self.folder / f"X_{part}.npy").stat().st_size < size:
                    return False
            np.load(self.folder / "in_train.npy", mmap_mode="r")
            for table, texts in zip(self._tables, state["texts"], strict=True):
                table.texts |= set(texts)
        except (OSError, ValueError, KeyError, TypeError):  # damaged, for example by a power failure
            return False
        self._state = state
        return True

    def begin(self, plan: ChunkPlan) -> None:
        """Make the folder, with the targets and without features."""
        for old in self.folder.iterdir():
            # Some systems list the files of arrays that are in use, though they have been removed.
            if old.name != LOCK and old.suffix != SCRATCH:
                old.unlink()
        np.save(self.folder / "in_train.npy", plan.in_train)
        for part, y in zip(_PARTS, (plan.y_train, plan.y_test), strict=True):
            with _GrowingFile(self.folder / f"y_{part}.npy", 0, []) as file:
                file.write_header(y.shape, dtype_of_targets(y))
                for start in range(0, len(y), _ROWS):
                    file.append(y[start : start + _ROWS].astype(dtype_of_targets(y)))
        self._state = {
            "identity": self._identity, "texts": [sorted(table.texts) for table in self._tables],
            "dataset": plan.described, "chunks": 0, "rows": [0, 0], "sizes": [0, 0], "digests": [[], []],
        }  # fmt: skip
        self._save_progress()

    def _save_progress(self) -> None:
        with atomic_write(self.folder / _PROGRESS) as stream:
            stream.write(json.dumps(self._state).encode())

    def write(self, progress: Callable[[str], None]) -> None:
        """Encode and write the features that are missing."""
        in_train = map_npy(self.folder / "in_train.npy")
        wanted = [len(np.load(self.folder / f"y_{part}.npy", mmap_mode="r")) for part in _PARTS]
        with contextlib.ExitStack() as stack:
            files = [
                stack.enter_context(_GrowingFile(self.folder / f"X_{part}.npy", size, digests))
                for part, size, digests in zip(_PARTS, self._state["sizes"], self._state["digests"], strict=True)
            ]
            # Each table's unknown categories are reported once, at the end.
            unknown = [UnknownValues(str(table.path), number == 1) for number, table in enumerate(self._tables)]
            done = 0
            for number, table in enumerate(self._tables):
                for start, chunk in numbered_chunks(table):
                    done += 1
                    if done > self._state["chunks"]:
                        rows = in_train[start : start + len(chunk.table)] if number == 0 else None
                        self._write_chunk(files, chunk, rows, wanted, unknown[number])
                        self._state["chunks"] = done
                        self._save_progress()
                        progress(f"{self._state['rows'][0]:,} of {wanted[0]:,} training rows written")
            for one in unknown:
                one.report()
        if self._state["rows"] != wanted or self._files() != self._identity["files"]:
            shutil.rmtree(self.folder)
            raise DataError(f"{self._tables[0].path} has changed while it was packed; pack it again.")

    def _write_chunk(
        self,
        files: list[_GrowingFile],
        chunk: Chunk,
        in_train: np.ndarray | None,
        wanted: list[int],
        unknown: UnknownValues,
    ) -> None:
        encoded = encode_chunk(chunk.table, self._state["dataset"], unknown)
        parts = (encoded[:0], encoded) if in_train is None else (encoded[in_train], encoded[~in_train])
        for number, part in enumerate(parts):
            if not self._state["sizes"][number]:
                files[number].write_header((wanted[number], part.shape[1]), part.dtype)
            files[number].append(part)
            self._state["rows"][number] += len(part)
            self._state["sizes"][number] = files[number].flush()
            self._state["digests"][number] = files[number].digests.finished

    def finish(self) -> None:
        """Write the description, and give the folder its final name."""
        arrays = {}
        for name in ARRAYS:
            path = self.folder / f"{name}.npy"
            if name.startswith("X"):
                digests = _resumed_digests(path, self._state["digests"][name == "X_test"]).all()
            else:
                digests = array_digests(np.load(path, mmap_mode="r", allow_pickle=False))
            arrays[name] = describe_array(path, digests)
        (self.folder / "in_train.npy").unlink()
        described = {"format": FORMAT, "arrays": arrays, "dataset": self._state["dataset"], "block": BLOCK}
        with atomic_write(self.folder / DESCRIPTION) as stream:
            stream.write(json.dumps(described, indent=1).encode())
        self._lock.close()
        for name in (_PROGRESS, LOCK):
            (self.folder / name).unlink()
        self.folder.rename(self._final)


class _GrowingFile:
    """``.npy`` file that grows by rows, with digests of its numbers; the rest of an interrupted write is removed."""

    def __init__(self, path: Path, size: int, digests: list[str]) -> None:
        self._stream: BinaryIO = path.open("r+b" if size else "wb")
        self._stream.truncate(size)
        self.digests = _resumed_digests(path, digests) if size else BlockDigests()
        self._stream.seek(size)

    def __enter__(self) -> _GrowingFile:
        return self

    def __exit__(self, *error: object) -> None:
        self._stream.close()

    def write_header(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        npy.write_array_header_1_0(
            self._stream, {"shape": shape, "fortran_order": False, "descr": npy.dtype_to_descr(dtype)}
        )

    def append(self, rows: np.ndarray) -> None:
        data = np.ascontiguousarray(rows).data.cast("B") if rows.size else b""
        self._stream.write(data)
        self.digests.update(data)

    def flush(self) -> int:
        """Write everything to the disk; return the size of the file."""
        self._stream.flush()
        os.fsync(self._stream.fileno())
        return self._stream.tell()


def _resumed_digests(path: Path, finished: list[str]) -> BlockDigests:
    """Return the digests of the numbers of an unfinished ``.npy`` file whose first blocks are known."""
    digests = BlockDigests(finished)
    with path.open("rb") as stream:
        npy.read_magic(stream)
        npy.read_array_header_1_0(stream)
        stream.seek(len(finished) * BLOCK, os.SEEK_CUR)
        while data := stream.read(_READ):
            digests.update(data)
    return digests
