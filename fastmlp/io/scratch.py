"""Arrays in temporary files, which take no anonymous memory."""

from __future__ import annotations

import functools
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["SCRATCH", "Empty", "scratch_in"]

# Function of a length and a dtype that returns a new one-dimensional array, as `numpy.empty`.
Empty = Callable[[int, npt.DTypeLike], np.ndarray]

SCRATCH = ".scratch"  # suffix of the files
_LEAST = 1 << 22  # bytes of an array that is worth a file
_ZEROS = 1 << 20  # bytes to write at once


def scratch_in(folder: Path) -> Empty:
    """Return a function as `numpy.empty`, whose large arrays are in temporary files of a folder.

    A file has its space on the disk before it is written to, and is removed with its array.

    Examples
    --------
    >>> from pathlib import Path
    >>> scratch_in(Path("."))(3, float).shape
    (3,)
    """
    return functools.partial(_scratch, folder)


def _scratch(folder: Path, length: int, dtype: npt.DTypeLike) -> np.ndarray:
    kind: np.dtype[Any] = np.dtype(dtype)
    size = length * kind.itemsize
    if size < _LEAST or kind.hasobject:
        return np.empty(length, kind)
    with tempfile.TemporaryFile(dir=folder, suffix=SCRATCH) as stream:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(stream.fileno(), 0, size)  # a full disk is an OSError here, and later a signal
        else:
            for start in range(0, size, _ZEROS):
                stream.write(bytes(min(_ZEROS, size - start)))
            stream.flush()
        return np.memmap(stream, kind, "r+", shape=(length,))  # the map has the file open
