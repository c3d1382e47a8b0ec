"""Tensor files: safetensors with text beside the tensors and a checksum over all of it.

A file is the header's length (8 bytes, little endian), the header in JSON and the tensors; the header's
``__metadata__`` is a dict of text. Its ``sha256`` is over the other metadata, and over each tensor's name, dtype, shape
and numbers, sorted by name.
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
    """Write a file, whole or not at all; the same content gives the same bytes.

    Raises
    ------
    OSError
        If it cannot be written; one that stood there before is untouched.
    """
    from safetensors.numpy import save as serialize

    metadata = {**metadata, _CHECKSUM: _checksum(tensors, metadata)}
    data = serialize(tensors, metadata)
    # The library writes the metadata in random order; the header is padded with spaces to a multiple of 8.
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
    """(metadata, tensors) of a file.

    No tensors, and no look at the checksum, where its ``format`` is another or its ``format_version`` beyond
    ``version``, which the caller refuses.

    Raises
    ------
    ModelFileError
        If it is no such file, or its content is not what the checksum says. Nothing is allocated for tensors that the
        file has no room for.
    OSError
        If it cannot be read.
    """
    from safetensors import SafetensorError, safe_open

    if not Path(path).is_file():
        with open(path, "rb"):  # raises what is wrong: missing, a folder, no permission
            pass
        raise ModelFileError(f"{path} is not a regular file; expected a model saved by fastmlp.")
    try:
        with safe_open(os.fspath(path), framework="numpy") as file:
            metadata = dict(file.metadata() or {})
            known = metadata.get("format_version", "") in map(str, range(version + 1))
            wanted = with_tensors and known and metadata.get("format") == file_format
            tensors = {name: file.get_tensor(name) for name in file.keys()} if wanted else {}
    except (SafetensorError, TypeError, AttributeError) as error:  # also: a dtype that NumPy does not have
        raise ModelFileError(f"{path} is damaged or not a safetensors file ({error}).") from error
    seen = metadata.pop(_CHECKSUM, None)  # files before there were checksums have none
    if wanted and seen is not None and seen != _checksum(tensors, metadata):
        raise ModelFileError(f"{path} is damaged: its content does not have the checksum that it was saved with.")
    return metadata, tensors


def _checksum(tensors: dict[str, Array], metadata: dict[str, str]) -> str:
    digest = hashlib.sha256(json.dumps(metadata, sort_keys=True).encode())
    for name in sorted(tensors):
        array = np.ascontiguousarray(tensors[name])
        digest.update(f"{name}:{array.dtype.str}:{array.shape}".encode())
        digest.update(array.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()
