"""Reader of IDX files, the format of MNIST: a header with the dimensions, then the values in big-endian order."""

from __future__ import annotations

import gzip
import math
import os
import struct
import zlib
from pathlib import Path
from typing import BinaryIO

import numpy as np

from .._common.errors import DataError

__all__ = ["read_idx"]

_ELEMENTS = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_MOST_DIMENSIONS = 8
_CHUNK = 1 << 20


def read_idx(path: str | os.PathLike[str]) -> np.ndarray:
    """Read an IDX file, optionally gzipped (detected by the first bytes).

    Memory is allocated for the bytes of the file, not for the size that the header claims.

    Parameters
    ----------
    path : path-like
        The file.

    Returns
    -------
    ndarray
        Writable and C-contiguous, in native byte order, with the header's dimensions; uint8, int8,
        int16, int32, float32 or float64 by the header's type code.

    Raises
    ------
    DataError
        If the file cannot be read, is not an IDX file, or has another size than its header states.
    """
    path = Path(path)
    try:
        with path.open("rb") as stream:
            zipped = stream.read(2) == b"\x1f\x8b"
            stream.seek(0)
            if not zipped:
                return _read_stream(stream, path)
            with gzip.open(stream) as unzipped:
                return _read_stream(unzipped, path)  # type: ignore[arg-type]
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read: {_reason(error)}.") from error


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return "its gzip stream is truncated" if isinstance(error, EOFError) else f"{error}".rstrip(".")


def _read_stream(stream: BinaryIO, path: Path) -> np.ndarray:
    magic = stream.read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in _ELEMENTS:
        raise DataError(
            f"{path} is not an IDX file: it begins with {magic.hex(' ') or 'nothing'}, expected 00 00, "
            "a type code and the number of dimensions."
        )
    count = magic[3]
    if not 1 <= count <= _MOST_DIMENSIONS:
        raise DataError(f"{path} has {count} dimensions in its IDX header; expected 1 to {_MOST_DIMENSIONS}.")
    header = stream.read(4 * count)
    if len(header) < 4 * count:
        raise DataError(f"{path} ends within its header: {4 + len(header)} bytes, expected {4 + 4 * count}.")
    shape = struct.unpack(f">{count}I", header)
    dtype = np.dtype(_ELEMENTS[magic[2]])
    expected = math.prod(shape) * dtype.itemsize

    values = bytearray()
    while len(values) <= expected:
        chunk = stream.read(min(_CHUNK, expected + 1 - len(values)))
        if not chunk:
            break
        values += chunk
    seen = len(values)
    while seen > expected and (chunk := stream.read(_CHUNK)):
        seen += len(chunk)
    if seen != expected:
        raise DataError(
            f"{path} holds {seen} bytes after its header, expected {expected} for dimensions "
            f"{' x '.join(map(str, shape))} of {dtype.newbyteorder('=')}."
        )
    try:
        array = np.frombuffer(values, dtype).reshape(shape)
    except ValueError as error:  # an empty array whose other dimensions overflow an index
        raise DataError(f"{path} has impossible dimensions: {' x '.join(map(str, shape))}.") from error
    return array.astype(dtype.newbyteorder("="), copy=False)
