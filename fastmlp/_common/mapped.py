"""Arrays in mapped files, and how the system reads these files."""

from __future__ import annotations

import io
import mmap
import os
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np

from .memory import available_memory, format_bytes

__all__ = ["AHEAD", "SINGLE_PAGES", "Facts", "MappedFiles", "address_of", "byte_bounds", "file_identity", "mapping_of"]

# Where a page is missing, AHEAD reads also those around it, up to megabytes; SINGLE_PAGES does not.
AHEAD, SINGLE_PAGES = "MADV_NORMAL", "MADV_RANDOM"
_READ = 1 << 21  # bytes of a request: a block of rows


def mapping_of(array: Any) -> mmap.mmap | None:
    """Return the mapped file that has the array's numbers, as that of a `numpy.memmap`; None for other arrays.

    Examples
    --------
    >>> mapping_of(np.zeros(3)) is None
    True
    """
    while isinstance(array, (np.ndarray, memoryview)):
        array = array.base if isinstance(array, np.ndarray) else array.obj
    return array if isinstance(array, mmap.mmap) else None


def file_identity(array: Any) -> tuple[Any, ...] | None:
    """Return the file of an array, the time of its last change, and the array's place in it.

    Arrays of equal identity have equal numbers, unless the file was written to through another map: of several writes
    to a page before it is on the disk, the system may note the first one only. None for an array that can be written
    to, or that is not in a `numpy.memmap`.

    Examples
    --------
    >>> file_identity(np.zeros(3)) is None
    True
    """
    start, base = array, array
    while isinstance(base, np.ndarray) and not base.flags.writeable:
        if isinstance(base, np.memmap) and getattr(base, "filename", None) is not None:
            start = base
        base = base.base
    if not isinstance(start, np.memmap) or not isinstance(base, mmap.mmap):
        return None
    try:
        status = os.stat(str(start.filename))
    except OSError:  # gone
        return None
    place = address_of(array) - address_of(start) + int(start.offset)
    version = status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
    return *version, place, array.shape, array.strides, array.dtype.str


class Facts(dict[Any, Any]):
    """Facts about mapped files, by `file_identity`, of which the oldest are forgotten.

    Examples
    --------
    >>> facts = Facts()
    >>> facts.keep("file", True)
    >>> facts.get("file")
    True
    """

    MOST = 64

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()

    def keep(self, key: Any, fact: Any) -> None:
        """Keep a fact, unless the key is None."""
        if key is not None:
            with self._lock:
                self[key] = fact
                while len(self) > self.MOST:
                    del self[next(iter(self))]


class MappedFiles:
    """Mapped files of some arrays, with the advice that the system has about their reads.

    Parameters
    ----------
    arrays : iterable
        Those that are not in mapped files are ignored.

    Attributes
    ----------
    nbytes : int
        Size of the arrays in mapped files.
    free : int or None
        Bytes of free memory at the construction; None if the system does not tell it, or no array is in a mapped file.
    exceed_memory : bool
        Whether they are larger than the free memory, or may be where the system does not tell it.

    Examples
    --------
    >>> MappedFiles([np.zeros(3), None]).nbytes
    0
    """

    def __init__(self, arrays: Iterable[Any]) -> None:
        self._arrays = [(array, mapping) for array in arrays if (mapping := mapping_of(array)) is not None]
        self.nbytes = sum(array.nbytes for array, _ in self._arrays)
        self._advice = AHEAD
        self._files: dict[int, tuple[io.FileIO | None, int]] = {}
        self._buffer = memoryview(b"")
        self.free = available_memory() if self.nbytes else None
        self.exceed_memory = self.nbytes > 0 and (self.free is None or self.nbytes > self.free)

    def __str__(self) -> str:
        free = "an unknown amount" if self.free is None else format_bytes(self.free)
        return f"{format_bytes(self.nbytes)} in mapped files, {free} of memory free"

    @contextmanager
    def advised(self, advice: str) -> Iterator[None]:
        """Advise the system to read by `AHEAD` or `SINGLE_PAGES` within the block, and as before after it."""
        before = self._advice
        self._set(advice)
        try:
            yield
        finally:
            self._set(before)

    def read(self, first: int, last: int) -> None:
        """Bring the rows ``first`` to ``last - 1`` of each of the arrays into memory, for steps that use them soon.

        The system is asked to read them. Rows that are in memory already would be the next ones that it drops, so that
        these are read once more, if the file has a name.
        """
        for number, (array, mapping) in enumerate(self._arrays):
            rows = array[first:last]
            # The bytes of some rows are near each other only if they follow one another.
            if not (rows.size and rows.strides[0] == max(rows.strides)):
                continue
            low, high = byte_bounds(rows)
            with suppress(OSError):  # the system refuses: steps read the rows when they need them
                if number not in self._files:
                    self._files[number] = _open_file(array)
                stream, address = self._files[number]
                if stream is not None:
                    self._read_ahead(stream, low - address, high - low)
                elif hasattr(mmap, "MADV_WILLNEED"):
                    start = address_of(np.frombuffer(mapping, np.uint8))
                    page = (low - start) // mmap.PAGESIZE * mmap.PAGESIZE
                    mapping.madvise(mmap.MADV_WILLNEED, page, high - start - page)

    def _read_ahead(self, stream: io.FileIO, start: int, size: int) -> None:
        self._buffer = self._buffer or memoryview(bytearray(_READ))
        if hasattr(os, "RWF_NOWAIT"):
            try:
                os.preadv(stream.fileno(), [self._buffer[:1]], start, os.RWF_NOWAIT)
            except OSError:  # the first page is not in memory, or the file system cannot tell
                os.posix_fadvise(stream.fileno(), start, size, os.POSIX_FADV_WILLNEED)
                return
        stream.seek(start)
        while size > 0 and (count := stream.readinto(self._buffer[:size])):
            size -= count

    def close(self) -> None:
        """Close the files that `read` has opened."""
        for stream, _ in self._files.values():
            if stream is not None:
                stream.close()
        self._files = {}

    def _set(self, advice: str) -> None:
        if advice == self._advice:
            return
        self._advice = advice
        if not hasattr(mmap, advice):  # Windows takes no advice
            return
        for mapping in {id(mapping): mapping for _, mapping in self._arrays}.values():
            with suppress(OSError):  # the system refuses: reads are slower then
                mapping.madvise(getattr(mmap, advice))


def _open_file(array: Any) -> tuple[io.FileIO | None, int]:
    """Open the file of a `numpy.memmap`; return it, None if it has no name, and the address of its first byte."""
    start = None
    while isinstance(array, np.ndarray):
        if isinstance(array, np.memmap) and getattr(array, "filename", None) is not None:
            start = array
        array = array.base
    if start is None:
        return None, 0
    try:
        stream = io.FileIO(str(start.filename))
    except OSError:  # removed, or not to be opened again
        return None, 0
    if hasattr(os, "posix_fadvise"):  # else the system reads megabytes behind each block, too
        os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
    return stream, address_of(start) - int(start.offset)


def address_of(array: Any) -> int:
    """Return the address of an array's first element."""
    return int(array.__array_interface__["data"][0])


def byte_bounds(array: np.ndarray) -> tuple[int, int]:
    """Return the addresses of an array's first byte and of the byte behind its last one, for any strides.

    Examples
    --------
    >>> first, last = byte_bounds(np.zeros((3, 4))[:, ::-2])
    >>> last - first
    88
    """
    steps = [(length - 1) * stride for length, stride in zip(array.shape, array.strides, strict=True)]
    first = address_of(array)
    return first + sum(min(0, step) for step in steps), first + sum(max(0, step) for step in steps) + array.itemsize
