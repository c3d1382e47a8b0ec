"""Group: processes (ranks) that train one model together, and the sums that they make."""

from __future__ import annotations

import ctypes
import json
import platform
import sys
from typing import Any

import numpy as np

from .validation import Array

__all__ = ["Group", "is_power_of_two", "tree_sum"]

# f(work, weights, table, numbers, offset, size, slots), the type of functions that the engine calls by address
_REDUCER = ctypes.CFUNCTYPE(None, *4 * (ctypes.c_void_p,), *3 * (ctypes.c_int64,))


def is_power_of_two(number: int) -> bool:
    """Return whether ``number`` is 1, 2, 4, 8 and so on."""
    return number > 0 and number & (number - 1) == 0


def tree_sum(parts: list[Array]) -> Array:
    """Return the sum of arrays as a binary tree: neighbors first, then sums of two, of four and so on.

    Of more than 2^k arrays, those from number 2^k on are first added to the first ones.

    Examples
    --------
    >>> tree_sum([np.full(1, value, np.float32) for value in (1e8, 1.0, -1e8, 1.0)])
    array([0.], dtype=float32)
    """
    most = 1 << (len(parts).bit_length() - 1)
    level = [*parts]
    for place, part in enumerate(level[most:]):
        level[place] = level[place] + part
    level = level[:most]
    while len(level) > 1:
        level = [first + second for first, second in zip(level[::2], level[1::2], strict=True)]
    return level[0]


class Group:
    """Group of ranks; this class is the group of one process, and the base class of others.

    A subclass sets ``rank`` and ``size`` and implements `sum`, `share_bytes` and `abort`.

    Attributes
    ----------
    rank, size : int
        Number of this process among the ranks, and number of ranks.
    local_size : int
        Number of ranks on this machine.
    sums : int
        Number of calls of `sum` so far.
    failure : BaseException or None
        Exception of a sum that native code asked for.
    parted : bool
        Whether all ranks have left their common work by an exception of one of them.

    Examples
    --------
    >>> group, values = Group(), np.ones(3)
    >>> group.sum(values)
    >>> values
    array([1., 1., 1.])
    """

    rank = 0
    size = 1
    local_size = 1

    def __init__(self) -> None:
        self.sums = 0
        self.failure: BaseException | None = None
        self.parted = False
        self._reducers: dict[np.dtype[Any], tuple[Any, int]] = {}

    def __repr__(self) -> str:
        return f"{type(self).__name__}(rank={self.rank}, size={self.size})"

    @property
    def name(self) -> str:
        """Name of this rank for messages, such as "rank 3 on node7"."""
        return f"rank {self.rank} on {platform.node() or 'this machine'}"

    def sum(self, *arrays: Array) -> None:
        """Add each array over the ranks, in place and in the order of `tree_sum`.

        Parameters
        ----------
        *arrays : contiguous ndarray of shape (N,), of float32 or float64
            Of the same shapes and dtypes on all ranks. They travel together.
        """
        self.sums += 1

    def share_bytes(self, data: bytes | None) -> bytes:
        """Return the data of rank 0; the argument of other ranks is not used."""
        assert data is not None
        return data

    def share(self, value: Any) -> Any:
        """Return the value of rank 0, which JSON can hold; the argument of other ranks is not used."""
        return json.loads(self.share_bytes(json.dumps(value).encode() if self.rank == 0 else None))

    def abort(self, message: str) -> None:
        """Print the message with the name of the rank, and end the processes of all ranks with exit code 1."""
        print(f"{self.name}: {message}", file=sys.stderr, flush=True)
        raise SystemExit(1)

    def reducer(self, dtype: Any) -> int:
        """Return the address of a function by which native code calls `sum`; 0 for a group of one.

        The function is ``f(work, weights, table, numbers, offset, size, slots)``. It adds ``size`` numbers of ``dtype``
        at ``work[offset]`` and a number of float64 at the address ``slots``. After an exception, which it stores as
        ``failure``, that number is NaN.
        """
        dtype = np.dtype(dtype)
        if self.size == 1:
            return 0
        if dtype not in self._reducers:

            def reduce(work: int, weights: int, table: int, numbers: int, offset: int, size: int, slots: int) -> None:
                slot = _view(slots, 1, np.dtype(np.float64))
                try:
                    self.sum(_view(work + offset * dtype.itemsize, size, dtype), slot)
                except BaseException as error:  # ctypes would print and ignore it
                    self.failure, slot[0] = error, np.nan

            function = _REDUCER(reduce)
            self._reducers[dtype] = function, ctypes.cast(function, ctypes.c_void_p).value or 0
        return self._reducers[dtype][1]


def _view(address: int, size: int, dtype: np.dtype[Any]) -> Array:
    """Return the numbers at an address as an array, without a copy."""
    memory = (ctypes.c_char * (size * dtype.itemsize)).from_address(address)
    view: Array = np.frombuffer(memoryview(memory), dtype)
    return view
