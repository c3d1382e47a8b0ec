"""Readers of ``.npy`` and ``.npz`` files that load no pickles and do not trust the headers."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.lib import format as npy

from .._common.errors import DataError

__all__ = ["ARRAY_SUFFIXES", "map_npy", "read_npy", "read_npz"]

ARRAY_SUFFIXES = (".npy", ".npz")
# Largest compression ratio of deflate.
_DEFLATE_LIMIT = 1032
_CHUNK = 1 << 20


def read_npy(path: Path) -> np.ndarray:
    """Read one array from a ``.npy`` file.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    ndarray
        Writable and C-contiguous, of booleans, real numbers or strings.

    Raises
    ------
    DataError
        If the file cannot be read, holds objects, or has another size than its header states.
    """
    with _opened(path) as stream:
        return _read_array(stream, os.fstat(stream.fileno()).st_size, str(path))


def map_npy(path: Path) -> np.ndarray:
    """Map one array of a ``.npy`` file, which is then read when it is used.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    numpy.memmap or ndarray
        Read-only, of booleans, real numbers or strings; in memory if its byte order or layout is not the usual one.

    Raises
    ------
    DataError
        As `read_npy`.
    """
    with _opened(path) as stream:
        shape, fortran, dtype = _read_header(stream, str(path))
        offset, size = stream.tell(), os.fstat(stream.fileno()).st_size
        _require_size(size - offset, shape, dtype, str(path))
        if not fortran and dtype.isnative:
            return np.memmap(stream, dtype, "r", offset, shape)
    return read_npy(path)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """Open a file; an error of the system becomes a DataError that names it."""
    try:
        with path.open("rb") as stream:
            yield stream
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.") from error


def read_npz(path: Path, wanted: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Read some arrays of a ``.npz`` file.

    Parameters
    ----------
    path : Path
        The file.
    wanted : tuple of str
        Keys to read. Keys that the file lacks are left out of the result.

    Returns
    -------
    dict of str to ndarray
        See `read_npy`.

    Raises
    ------
    DataError
        If the archive or one of the arrays is damaged, or an array holds objects.
    """
    import zipfile  # these take as long to import as a step of a small fit takes; `map_npy` does without
    import zlib

    arrays = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for info in archive.infolist():
                key = info.filename.removesuffix(".npy")
                if key not in wanted or info.filename == key:
                    continue
                label = f"{path}[{key}]"
                if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                    raise DataError(f"{label} is compressed by method {info.compress_type}, expected deflate.")
                if info.file_size > _DEFLATE_LIMIT * info.compress_size + _CHUNK:
                    raise DataError(
                        f"{label} claims {info.file_size} bytes in {info.compress_size} compressed ones; "
                        "the archive is damaged."
                    )
                with archive.open(info) as stream:
                    arrays[key] = _read_array(stream, info.file_size, label)  # type: ignore[arg-type]
    except DataError:
        raise
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, RuntimeError, KeyError) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise DataError(f"{path} cannot be read as .npz: {str(reason)[:200].rstrip('.')}.") from error
    return arrays


def _read_header(stream: BinaryIO, label: str) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Return (shape, whether the layout is Fortran's, dtype) of an array, whose values come next in the stream."""
    try:
        version = npy.read_magic(stream)
        reader = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}.get(version)
        if reader is None:
            raise DataError(f"{label} has .npy format {version[0]}.{version[1]}, expected 1.0 or 2.0.")
        shape, fortran, dtype = reader(stream)
    except DataError:
        raise
    except Exception as error:  # NumPy evaluates the header as a literal, which raises many types of exceptions
        raise DataError(f"{label} is not a .npy array: its header is truncated or damaged.") from error
    if dtype.hasobject:
        raise DataError(f"{label} holds Python objects (a pickle), which are never loaded; expected numbers.")
    if dtype.fields is not None or dtype.subdtype is not None or dtype.kind not in "biufUS":
        raise DataError(f"{label} has dtype {dtype}; expected booleans, real numbers or strings.")
    return shape, fortran, dtype


def _require_size(seen: int, shape: tuple[int, ...], dtype: np.dtype[Any], label: str) -> None:
    """Compare the bytes of the values with what the header, which may claim any shape, states."""
    expected = math.prod(shape) * dtype.itemsize
    if seen != expected or any(length < 0 for length in shape):
        raise DataError(f"{label} holds {seen} bytes of values, expected {expected} for {shape} of {dtype}.")
    if not expected:
        raise DataError(f"{label} is empty: shape {shape}.")


def _read_array(stream: BinaryIO, size: int, label: str) -> np.ndarray:
    shape, fortran, dtype = _read_header(stream, label)
    _require_size(size - stream.tell(), shape, dtype, label)  # before memory is allocated
    expected, values = math.prod(shape) * dtype.itemsize, bytearray()
    while len(values) <= expected and (chunk := stream.read(_CHUNK)):
        values += chunk
    if len(values) != expected:
        raise DataError(f"{label} holds {len(values)} bytes of values, expected {expected} for {shape}.")
    array = np.frombuffer(values, dtype).reshape(shape, order="F" if fortran else "C")
    return np.ascontiguousarray(array.astype(dtype.newbyteorder("="), copy=False))
