"""Arrays in mapped files, and how the system reads these files."""

from __future__ import annotations

import mmap
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

__all__ = ["AHEAD", "SINGLE_PAGES", "MappedFiles", "mapping_of"]

# Where a page is missing, AHEAD reads also those around it, up to megabytes; SINGLE_PAGES does not.
AHEAD, SINGLE_PAGES = "MADV_NORMAL", "MADV_RANDOM"


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

    Examples
    --------
    >>> MappedFiles([np.zeros(3), None]).nbytes
    0
    """

    def __init__(self, arrays: Iterable[Any]) -> None:
        found = [(array, mapping) for array in arrays if (mapping := mapping_of(array)) is not None]
        self.nbytes = sum(array.nbytes for array, _ in found)
        self._mappings = list({id(mapping): mapping for _, mapping in found}.values())
        self._advice = AHEAD

    @contextmanager
    def advised(self, advice: str) -> Iterator[None]:
        """Advise the system to read by `AHEAD` or `SINGLE_PAGES` within the block, and as before after it."""
        before = self._advice
        self._set(advice)
        try:
            yield
        finally:
            self._set(before)

    def _set(self, advice: str) -> None:
        if advice == self._advice:
            return
        self._advice = advice
        if not hasattr(mmap, advice):  # Windows takes no advice
            return
        for mapping in self._mappings:
            try:
                mapping.madvise(getattr(mmap, advice))
            except (OSError, ValueError):  # the system refuses, or the file was closed: the reads are slower only
                continue
