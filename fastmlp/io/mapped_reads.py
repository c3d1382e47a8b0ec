"""Reads of mapped files that fail: an error instead of the end of the process."""

from __future__ import annotations

import os
from collections.abc import Iterable
from types import TracebackType
from typing import Any

import numpy as np

from .._common.errors import MappedFileError
from .._common.mapped import byte_bounds, mapping_of
from .._kernels.compiled.library import extension_module

__all__ = ["GuardedReads"]


class GuardedReads:
    """Context in which a failed read of a mapped file raises an error, as its context manager ends or in `check`.

    A file that became shorter after it was mapped, or a disk that reports an error, would end the process. Within the
    context the pages that cannot be read are zeros. Without the extension module nothing is guarded.

    Parameters
    ----------
    arrays : iterable
        Those that are not in mapped files are ignored.

    Raises
    ------
    MappedFileError
        If a page could not be read; the message names the file.

    Examples
    --------
    >>> with GuardedReads([np.ones(3)]) as reads:
    ...     reads.check()
    """

    def __init__(self, arrays: Iterable[Any]) -> None:
        native = extension_module()
        self._guards: list[tuple[np.ndarray, Any]] = []
        for array in arrays:
            if native is not None and mapping_of(array) is not None and array.size:
                low, high = byte_bounds(array)
                self._guards.append((array, native.GuardedRange(low, high - low)))

    def __enter__(self) -> GuardedReads:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            # Zeros may have caused another error; one of `check` may say more by now.
            if error is None or (isinstance(error, ValueError) and not isinstance(error, MappedFileError)):
                self.check()
        finally:
            self.release()

    def release(self) -> None:
        """Guard nothing any more, and forget the failed reads."""
        for _, guard in self._guards:
            guard.release()
        self._guards = []

    def check(self) -> None:
        """Raise the error if a page could not be read so far."""
        for array, guard in self._guards:
            pages, position = guard.failed()
            if pages:
                path, size = _file_of(array)
                seen = "it cannot be found" if size is None else f"it has {size:,} bytes"
                raise MappedFileError(
                    f"{path} could not be read in {pages} places, first {position:,} bytes behind the first row: "
                    f"{seen}, {array.nbytes:,} bytes of rows were mapped. It changed or its disk failed; map it again."
                )


def _file_of(array: Any) -> tuple[str, int | None]:
    """Return the name of the mapped file and its size; None if it is gone."""
    name = None
    while isinstance(array, np.ndarray) and name is None:
        name, array = getattr(array, "filename", None), array.base
    if name is None:
        return "A mapped file", None
    try:
        return str(name), os.stat(name).st_size
    except OSError:
        return str(name), None
