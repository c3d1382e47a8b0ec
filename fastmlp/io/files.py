"""Crash-safe writing of files: neither a crash nor a full disk leaves a partial file."""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

__all__ = ["LineFile", "atomic_write", "try_lock"]


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a binary stream whose content becomes the file ``path`` when the block ends, whole or not at all.

    The content is written to a temporary file in the same folder, flushed to the disk and renamed. After an error or
    an interruption the temporary file is removed, and an older file at ``path`` is unchanged.

    Parameters
    ----------
    path : path-like
        The file. A symbolic link is followed; a device or a pipe is written to directly.

    Raises
    ------
    OSError
        If the folder is missing or not writable, or the disk is full. The exception names ``path``.

    Examples
    --------
    >>> with atomic_write("model.bin") as stream:  # doctest: +SKIP
    ...     stream.write(b"weights")
    """
    target = Path(os.path.realpath(path))
    try:
        if target.exists() and not stat.S_ISREG(target.stat().st_mode) and not target.is_dir():
            with target.open("wb", buffering=0) as stream:
                yield stream
            return
        # A short name: the limit on the length of a file name may leave no room for a suffix to the file's own.
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
        # Replace the name of the temporary file by the caller's.
        raise OSError(error.errno, error.strerror, str(path)) from error


def _sync_folder(folder: Path) -> None:
    """Flush the folder to the disk, so that the rename survives a power failure; POSIX only."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def try_lock(path: str | os.PathLike[str]) -> BinaryIO | None:
    """Open a file and lock it until it is closed or the process ends; None if another process has locked it.

    On Windows the file is opened only.

    Raises
    ------
    OSError
        If the file cannot be opened.
    """
    stream = Path(path).open("wb")
    try:
        import fcntl
    except ImportError:
        return stream
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        stream.close()
        return None
    return stream


class LineFile:
    """Text file that grows by whole lines: after a failure each line is complete or absent.

    Parameters
    ----------
    path : path-like
        The file; an older one is overwritten.

    Raises
    ------
    OSError
        If the file cannot be opened.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._stream = self.path.open("wb", buffering=0)

    def write(self, line: str) -> None:
        """Append ``line`` and a newline.

        Raises
        ------
        OSError
            If the line does not fit on the disk; the file then ends with the line before.
        """
        data = line.encode() + b"\n"
        start = self._stream.tell()
        try:
            # A single system call, which a kill of the process cannot split.
            written = self._stream.write(data)
            while written < len(data):  # a nearly full disk accepts a part; the next call raises
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
