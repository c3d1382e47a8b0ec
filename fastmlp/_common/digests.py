"""Digests of arrays by blocks: of those in files that have not changed, they are known without reading them."""

from __future__ import annotations

import hashlib
import math
from typing import Any

import numpy as np

from .mapped import Facts, file_identity

__all__ = ["BLOCK", "BlockDigests", "array_digests", "known_digests"]

BLOCK = 1 << 26  # bytes of an array for each digest
_ROWS = 1 << 24  # bytes of rows to convert to a contiguous array at once

known_digests = Facts()


class BlockDigests:
    """Digests of growing contents, one for each block of `BLOCK` bytes.

    Parameters
    ----------
    finished : list of str, optional
        Digests of the first blocks.

    Examples
    --------
    >>> digests = BlockDigests()
    >>> digests.update(b"rows")
    >>> len(digests.all())
    1
    """

    def __init__(self, finished: list[str] | None = None) -> None:
        self.finished = list(finished or [])
        self._hash, self._size = _new_hash(), 0

    def update(self, data: bytes | memoryview) -> None:
        """Add bytes at the end."""
        view = memoryview(data).cast("B")
        while len(view):
            part = view[: BLOCK - self._size]
            self._hash.update(part)
            self._size += len(part)
            view = view[len(part) :]
            if self._size == BLOCK:
                self.finished.append(self._hash.hexdigest())
                self._hash, self._size = _new_hash(), 0

    def all(self) -> list[str]:
        """Return the digests of all blocks, the last of which may be shorter."""
        return [*self.finished, self._hash.hexdigest()] if self._size else list(self.finished)


def array_digests(array: Any) -> list[str]:
    """Return the digests of the numbers of an array in C order, which do not depend on its memory layout.

    A mapped file is not read again if it has not changed since, see `file_identity`.

    Examples
    --------
    >>> array_digests(np.zeros((2, 3))) == array_digests(np.zeros((3, 2)).T)
    True
    """
    identity = file_identity(array)
    found: list[str] | None = known_digests.get(identity)
    if found is not None:
        return found
    rows, digests = array if array.shape else array.reshape(1), BlockDigests()
    step = max(1, _ROWS // max(1, math.prod(rows.shape[1:]) * rows.dtype.itemsize))
    for start in range(0, len(rows), step):
        part = np.ascontiguousarray(rows[start : start + step])
        digests.update(part.data if part.size else b"")
    found = digests.all()
    known_digests.keep(identity, found)
    return found


def _new_hash() -> Any:
    return hashlib.blake2b(digest_size=16)
