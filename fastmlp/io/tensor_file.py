"""Tensor files: safetensors with metadata and a checksum.

A file consists of the length of the header (8 bytes, little endian), the header in JSON and the tensors. The header's
``__metadata__`` maps names to text. Its entry ``sha256`` is a checksum over the other metadata and over the name,
dtype, shape and values of each tensor, sorted by name.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import numpy as np

from .._common.arithmetic import ceil_div
from .._common.errors import ModelFileError
from .._common.validation import Array
from .files import atomic_write

__all__ = ["read_tensors", "write_tensors"]

_CHECKSUM = "sha256"


def write_tensors(path: str | os.PathLike[str], tensors: dict[str, Array], metadata: dict[str, str]) -> None:
    """Write tensors and metadata to a file, whole or not at all; equal content gives equal bytes.

    Raises
    ------
    OSError
        If the file cannot be written; an older file is unchanged.
    """
    from safetensors.numpy import save as serialize

    metadata = {**metadata, _CHECKSUM: _checksum(tensors, metadata)}
    data = serialize(tensors, metadata)
    # safetensors writes the metadata in random order. The header is padded with spaces to a multiple of 8 bytes.
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    header["__metadata__"] = metadata
    text = json.dumps(header, separators=(",", ":"), sort_keys=True).encode()
    text = text.ljust(ceil_div(len(text), 8) * 8)
    with atomic_write(path) as stream:
        for part in (len(text).to_bytes(8, "little"), text, memoryview(data)[8 + size :]):
            stream.write(part)


def read_tensors(
    path: str | os.PathLike[str], file_format: str, version: int, *, with_tensors: bool = True
) -> tuple[dict[str, str], dict[str, Array]]:
    """Read the metadata and the tensors of a file.

    Parameters
    ----------
    path : path-like
    file_format : str
        Expected ``format`` of the metadata.
    version : int
        Largest ``format_version`` that the caller supports.
    with_tensors : bool
        Whether to read the tensors and check the checksum.

    Returns
    -------
    metadata : dict of str to str
    tensors : dict of str to ndarray
        Empty, with the checksum unchecked, if the format differs or the version is larger; the caller raises the error.

    Raises
    ------
    ModelFileError
        If the file is not a safetensors file, or its content does not match the checksum. The sizes in the header are
        checked against the size of the file before memory is allocated.
    OSError
        If the file cannot be read.
    """
    from safetensors import SafetensorError, safe_open

    if not Path(path).is_file():
        with open(path, "rb"):  # raises the OSError of a missing file, a folder or a lack of permission
            pass
        raise ModelFileError(f"{path} is not a regular file; expected a model saved by fastmlp.")
    try:
        with safe_open(os.fspath(path), framework="numpy") as file:
            metadata = dict(file.metadata() or {})
            known = metadata.get("format_version", "") in map(str, range(version + 1))
            wanted = with_tensors and known and metadata.get("format") == file_format
            tensors = {name: file.get_tensor(name) for name in file.keys()} if wanted else {}
    except (SafetensorError, TypeError, AttributeError) as error:  # the last two for a dtype that NumPy lacks
        raise ModelFileError(f"{path} is damaged or not a safetensors file ({error}).") from error
    seen = metadata.pop(_CHECKSUM, None)  # early versions wrote no checksum
    if wanted and seen is not None and seen != _checksum(tensors, metadata):
        raise ModelFileError(f"{path} is damaged: its content does not match its checksum.")
    return metadata, tensors


def _checksum(tensors: dict[str, Array], metadata: dict[str, str]) -> str:
    digest = hashlib.sha256(json.dumps(metadata, sort_keys=True).encode())
    for name in sorted(tensors):
        array = np.ascontiguousarray(tensors[name])
        digest.update(f"{name}:{array.dtype.str}:{array.shape}".encode())
        digest.update(array.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()
