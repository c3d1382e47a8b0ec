"""Packed folders: the arrays of a data set in ``.npy`` files, to be mapped instead of read, and a description."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .._common.errors import DataError
from ..io.array_files import map_npy
from .dataset import Dataset

__all__ = ["ARRAYS", "BLOCK", "DESCRIPTION", "FORMAT", "BlockDigests", "is_packed", "open_packed", "verify_packed"]

FORMAT = "fastmlp-packed-1"
DESCRIPTION = "packed.json"
ARRAYS = ("X_train", "y_train", "X_test", "y_test")
BLOCK = 1 << 26  # bytes of a file for each digest


class BlockDigests:
    """Digests of a growing file, one for each block of `BLOCK` bytes.

    Examples
    --------
    >>> digests = BlockDigests()
    >>> digests.update(b"rows")
    >>> len(digests.all())
    1
    """

    def __init__(self, finished: list[str] | None = None) -> None:
        self.finished = list(finished or [])
        self._hash, self._size = _new_hash(), 0

    def update(self, data: bytes | memoryview) -> None:
        """Add bytes at the end of the file."""
        view = memoryview(data).cast("B")
        while len(view):
            part = view[: BLOCK - self._size]
            self._hash.update(part)
            self._size += len(part)
            view = view[len(part) :]
            if self._size == BLOCK:
                self.finished.append(self._hash.hexdigest())
                self._hash, self._size = _new_hash(), 0

    def all(self) -> list[str]:
        """Return the digests of all blocks, the last of which may be shorter."""
        return [*self.finished, self._hash.hexdigest()] if self._size else list(self.finished)


def _new_hash() -> Any:
    return hashlib.blake2b(digest_size=16)


def is_packed(path: Path) -> bool:
    """Return whether a path is a packed folder."""
    return (path / DESCRIPTION).is_file()


def open_packed(folder: Path, name: str | None = None) -> Dataset:
    """Map the arrays of a packed folder.

    Parameters
    ----------
    folder : Path
    name : str, optional
        Name of the data set (default: that of the folder).

    Returns
    -------
    Dataset
        Its arrays are read-only and mapped: the system reads rows when they are used.

    Raises
    ------
    DataError
        If the description is damaged, or a file is missing or has another size than described.
    """
    described = _read_description(folder)
    arrays = [_map_array(folder, name, described["arrays"]) for name in ARRAYS]
    entries = described["dataset"]
    digest = hashlib.blake2b(json.dumps(described["arrays"], sort_keys=True).encode(), digest_size=16).hexdigest()
    try:
        return Dataset(
            *arrays,
            name=name or folder.name,
            task=entries["task"],
            classes=None if entries["classes"] is None else tuple(entries["classes"]),
            feature_names=None if entries["feature_names"] is None else tuple(entries["feature_names"]),
            image_shape=None if entries["image_shape"] is None else tuple(entries["image_shape"]),
            preprocessing=entries["preprocessing"],
            digest=digest,
        )
    except (KeyError, TypeError) as error:
        raise DataError(
            f"{folder / DESCRIPTION} is damaged: the entry {error} is missing or of another kind."
        ) from error


def verify_packed(folder: Path) -> Iterator[tuple[str, int]]:
    """Compare the contents of a packed folder with the digests of its description.

    Yields
    ------
    file : str
    size : int
        Bytes of each block that was read.

    Raises
    ------
    DataError
        If a block of a file differs, besides the errors of `open_packed`.
    """
    described = _read_description(folder)
    for name in ARRAYS:
        _map_array(folder, name, described["arrays"])
        path, expected = folder / f"{name}.npy", list(described["arrays"][name]["digests"])
        with path.open("rb") as stream:
            for number in range(len(expected) + 1):
                content = stream.read(BLOCK)
                seen = BlockDigests()
                seen.update(content)
                if seen.all() != expected[number : number + 1]:
                    raise DataError(
                        f"{path} is damaged: its bytes {number * BLOCK} to {number * BLOCK + len(content)} are not "
                        "those that were packed; pack the table again."
                    )
                yield path.name, len(content)


def _read_description(folder: Path) -> dict[str, Any]:
    path = folder / DESCRIPTION
    try:
        described = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read ({error}); expected a folder that fastmlp pack wrote.") from error
    if not isinstance(described, dict) or described.get("format") != FORMAT:
        seen = described.get("format") if isinstance(described, dict) else type(described).__name__
        raise DataError(f"{path} has the format {seen!r}; expected {FORMAT!r}.")
    if not all(isinstance(described.get(key), dict) for key in ("arrays", "dataset")):
        raise DataError(f"{path} is damaged: it describes no arrays.")
    return described


def _map_array(folder: Path, name: str, arrays: Mapping[str, Any]) -> np.ndarray:
    path = folder / f"{name}.npy"
    entry = arrays.get(name)
    if not isinstance(entry, dict) or not {"shape", "dtype", "digests"} <= set(entry):
        raise DataError(f"{folder / DESCRIPTION} is damaged: it does not describe {name}.")
    array = map_npy(path)
    if (list(array.shape), array.dtype.name) != (entry["shape"], entry["dtype"]):
        raise DataError(
            f"{path} has shape {array.shape} and dtype {array.dtype}; expected {tuple(entry['shape'])} and "
            f"{entry['dtype']} as packed."
        )
    return array
