"""Packed folders: the arrays of a data set in ``.npy`` files, to be mapped instead of read, and a description."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .._common.digests import BLOCK, known_digests
from .._common.errors import DataError
from .._common.mapped import file_identity
from .._common.validation import keep_finite
from ..io.array_files import map_npy
from .dataset import Dataset

__all__ = ["ARRAYS", "DESCRIPTION", "FORMAT", "describe_array", "is_packed", "open_packed", "verify_packed"]

FORMAT = "fastmlp-packed-2"
_FIRST_FORMAT = "fastmlp-packed-1"  # its digests are those of whole files, not of their numbers
DESCRIPTION = "packed.json"
ARRAYS = ("X_train", "y_train", "X_test", "y_test")
_CONTENTS = ("shape", "dtype", "digests")


def is_packed(path: Path) -> bool:
    """Return whether a path is a packed folder."""
    return (path / DESCRIPTION).is_file()


def describe_array(path: Path, digests: Sequence[str]) -> dict[str, Any]:
    """Return the entry of a ``.npy`` file in the description, with the digests of its numbers."""
    array, status = map_npy(path), path.stat()
    return {
        "shape": list(array.shape), "dtype": array.dtype.name, "digests": list(digests),
        "size": status.st_size, "mtime_ns": status.st_mtime_ns,
    }  # fmt: skip


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
        Its arrays are read-only and mapped: the system reads rows when they are used. A fit does not read them for its
        checks and its fingerprint while the size and the time of a file are those at the end of `pack`.

    Raises
    ------
    DataError
        If the description is damaged, or a file is missing or has another size than described.
    """
    described = _read_description(folder)
    arrays = [_map_array(folder, name, described) for name in ARRAYS]
    entries = described["dataset"]
    contents = {name: {key: described["arrays"][name][key] for key in _CONTENTS} for name in ARRAYS}
    digest = hashlib.blake2b(json.dumps(contents, sort_keys=True).encode(), digest_size=16).hexdigest()
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
    block = described["block"]
    for name in ARRAYS:
        array = _map_array(folder, name, described)
        path, expected = folder / f"{name}.npy", list(described["arrays"][name]["digests"])
        position = 0 if described["format"] == _FIRST_FORMAT else path.stat().st_size - array.nbytes
        with path.open("rb") as stream:
            stream.seek(position)
            for number in range(len(expected) + 1):
                content = stream.read(block)
                seen = hashlib.blake2b(content, digest_size=16).hexdigest()
                if ([seen] if content else []) != expected[number : number + 1]:
                    raise DataError(
                        f"{path} is damaged: its bytes {position} to {position + len(content)} are not "
                        "those that were packed; pack the table again."
                    )
                position += len(content)
                yield path.name, len(content)


def _read_description(folder: Path) -> dict[str, Any]:
    path = folder / DESCRIPTION
    try:
        described = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read ({error}); expected a folder that fastmlp pack wrote.") from error
    if not isinstance(described, dict) or described.get("format") not in (FORMAT, _FIRST_FORMAT):
        seen = described.get("format") if isinstance(described, dict) else type(described).__name__
        raise DataError(f"{path} has the format {seen!r}; expected {FORMAT!r}.")
    if not all(isinstance(described.get(key), dict) for key in ("arrays", "dataset")):
        raise DataError(f"{path} is damaged: it describes no arrays.")
    if not isinstance(described.get("block"), int) or described["block"] < 1:
        raise DataError(f"{path} is damaged: the size of its blocks is {described.get('block')!r}.")
    return described


def _map_array(folder: Path, name: str, described: Mapping[str, Any]) -> np.ndarray:
    path = folder / f"{name}.npy"
    entry = described["arrays"].get(name)
    if not isinstance(entry, dict) or not set(_CONTENTS) <= set(entry):
        raise DataError(f"{folder / DESCRIPTION} is damaged: it does not describe {name}.")
    array = map_npy(path)
    if (list(array.shape), array.dtype.name) != (entry["shape"], entry["dtype"]):
        raise DataError(
            f"{path} has shape {array.shape} and dtype {array.dtype}; expected {tuple(entry['shape'])} and "
            f"{entry['dtype']} as packed."
        )
    status = path.stat()
    if (entry.get("size"), entry.get("mtime_ns")) == (status.st_size, status.st_mtime_ns):
        keep_finite(array)
        if described["block"] == BLOCK:
            known_digests.keep(file_identity(array), list(entry["digests"]))
    return array
