"""Encoded rows in a mapped file instead of memory."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from .._common.errors import DataError
from .._common.mapped import mapping_of

__all__ = ["map_rows"]


def map_rows(parts: Iterable[np.ndarray], folder: Path, source: str, whole: np.ndarray | None = None) -> np.ndarray:
    """Write rows to a temporary file, which is removed when it is no longer in use, and map it.

    Parameters
    ----------
    parts : iterable of ndarray of shape (rows, features)
        Of one dtype.
    folder : Path
        Folder of the temporary file; created if it does not exist. (The usual one may be in memory.)
    source : str
        Name of the table, for messages.
    whole : ndarray, optional
        Rows in a mapped file. If all parts are slices of it, nothing is written, and it is returned.

    Returns
    -------
    ndarray of shape (N, features)
        Read-only and mapped.

    Raises
    ------
    DataError
        If there are no rows.
    OSError
        If the disk is full, or the folder cannot be written to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rows, stream, last = 0, None, None
    try:
        for last in parts:
            if whole is None or stream is not None or mapping_of(last) is not mapping_of(whole):
                if stream is None:
                    stream = tempfile.TemporaryFile(dir=folder, suffix=".rows")
                    if whole is not None:
                        stream.write(np.ascontiguousarray(whole[:rows]).data.cast("B") if rows else b"")
                stream.write(np.ascontiguousarray(last).data.cast("B") if last.size else b"")
            rows += len(last)
        if last is None or not rows:
            raise DataError(f"{source} has no rows; expected at least one.")
        if stream is None:
            assert whole is not None
            return whole
        stream.flush()
        return np.memmap(stream, last.dtype, "r", shape=(rows, last.shape[1]))
    finally:
        if stream is not None:
            stream.close()  # the map has the file open
