"""Writing files so that neither a crash nor a full disk leaves half of one: the only place that does."""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

__all__ = ["LineFile", "atomic_write"]


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """A binary stream whose content becomes the file ``path`` when the block ends, whole or not at all.

    It is written to a temporary file in the same folder, flushed to the disk and renamed. After an error
    or an interruption the temporary file is gone and what stood at ``path`` before still stands there.

    Parameters
    ----------
    path : path-like
        The file; a link to a file is followed, a device or a pipe is written to directly.

    Raises
    ------
    OSError
        If the folder is missing or not writable, or the disk is full; it names ``path``.
    """
    target = Path(os.path.realpath(path))
    try:
        if target.exists() and not stat.S_ISREG(target.stat().st_mode) and not target.is_dir():
            with target.open("wb", buffering=0) as stream:
                yield stream
            return
        # Short, so that it fits wherever the file's own name does.
        temporary = target.with_name(f".{secrets.token_hex(6)}.tmp")
        try:
            with temporary.open("xb") as stream:
                yield stream
                stream.flush()
                os.fsync(stream.fileno())
            os.replace(temporary, target)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                temporary.unlink()
            raise
        _sync_folder(target.parent)
    except OSError as error:
        if error.errno is None:
            raise
        # The name of the temporary file would tell the reader nothing.
        raise OSError(error.errno, error.strerror, str(path)) from error


def _sync_folder(folder: Path) -> None:
    """Make the rename itself last through a power cut, where the system lets one open a folder."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class LineFile:
    """A text file that grows by whole lines: after any failure each line is there in full or not at all.

    Parameters
    ----------
    path : path-like
        The file; what it held before is dropped.

    Raises
    ------
    OSError
        If it cannot be opened.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._stream = self.path.open("wb", buffering=0)

    def write(self, line: str) -> None:
        """Append ``line`` and a newline; OSError if that does not fit on the disk."""
        data = line.encode() + b"\n"
        start = self._stream.tell()
        try:
            # One call: a process that is killed has made it or not.
            written = self._stream.write(data)
            while written < len(data):  # a disk nearly full takes a part, and then says why
                written += self._stream.write(data[written:])
        except BaseException as error:
            self._stream.truncate(start)
            self._stream.seek(start)
            if isinstance(error, OSError) and error.errno is not None:
                raise OSError(error.errno, error.strerror, str(self.path)) from error
            raise

    def close(self) -> None:
        """Close the file."""
        self._stream.close()
