"""Orders of the training rows: all of them shuffled, shuffled within windows, or as they are."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .._common.arithmetic import ceil_div
from .._common.mapped import MappedFiles
from .._common.philox import BLOCKS, derive_seed, shuffle_order, shuffle_ranges
from .._common.validation import Array

__all__ = ["BLOCK_NUMBERS", "WINDOW", "RowOrder", "WindowedOrder", "choose_order"]

_log = logging.getLogger("fastmlp")

# A window of 2**25 features is 128 MiB in float32. Blocks of 2 MiB are read about as fast as a whole file; fewer and
# larger ones would mix sorted rows worse (bench/row_orders.py).
WINDOW = 64  # blocks of a window
BLOCK_NUMBERS = 1 << 19  # most features of a block


@dataclass(frozen=True)
class RowOrder:
    """Order of the rows in each epoch of a fit.

    Attributes
    ----------
    kind : {"full", "windows", "none"}
        "full": a random order of all rows. "windows": blocks of consecutive rows in random order, the rows mixed within
        windows of 64 blocks. "none": the order of the data.
    block : int or None
        Rows of a block of "windows".
    reason : str
        Why the kind was chosen, for messages; empty if the user chose it.

    Examples
    --------
    >>> str(RowOrder("windows", 512))
    'windows of 64 blocks of 512 rows'
    """

    kind: str
    block: int | None = None
    reason: str = ""

    @property
    def window_rows(self) -> int:
        """Rows of a window; 0 for other kinds."""
        return WINDOW * (self.block or 0)

    def __str__(self) -> str:
        text = {"full": "all rows shuffled", "none": "not shuffled"}.get(self.kind)
        text = text or f"windows of {WINDOW} blocks of {self.block:,} rows"
        return f"{text} ({self.reason})" if self.reason else text


def choose_order(shuffle: Any, mapped: MappedFiles, width: int, saved: str | None = None) -> RowOrder:
    """Return the order for the argument ``shuffle`` of `Trainer.fit`.

    Parameters
    ----------
    shuffle : bool or {"full", "windows"}
    mapped : MappedFiles
        Of the training data.
    width : int
        Number of features.
    saved : str, optional
        Kind of the order of the fit that is resumed; True keeps it, unless it is "none".

    Raises
    ------
    ValueError
        If ``shuffle`` has another value.
    """
    block = 1 << max(0, (BLOCK_NUMBERS // width).bit_length() - 1)  # depends neither on the dtype nor on the machine
    if isinstance(shuffle, str) and shuffle in ("full", "windows"):
        return RowOrder(shuffle, block if shuffle == "windows" else None)
    if not isinstance(shuffle, (bool, np.bool_)):
        raise ValueError(f"shuffle is {shuffle!r}; expected True, False, 'full' or 'windows'.")
    if not shuffle:
        return RowOrder("none")
    if saved in ("full", "windows"):
        return RowOrder(saved, block, "as in the fit that is resumed") if saved == "windows" else RowOrder(saved)
    if not mapped.exceed_memory:
        return RowOrder("full")
    order = RowOrder("windows", block, str(mapped))
    _log.info("Order of the rows: %s.", order)
    return order


class WindowedOrder:
    """Order of the rows of an epoch in windows, which are drawn when a slice needs them.

    The blocks are in random order, and each 64 of them make a window. Within a window the rows have the order that they
    have in `shuffle_order` of all rows. Thus one window with all blocks is a full shuffle.

    Parameters
    ----------
    seed, epoch : int
    rows : int
    block : int
        Rows of a block, a power of 2. The last block may be smaller.
    announce : callable, optional
        Called once with the first row and the end of each block of a window that is drawn, and of ``ahead`` windows
        after it.
    ahead : int

    Examples
    --------
    >>> order = WindowedOrder(0, 0, 100, 4)
    >>> np.array_equal(np.sort(order[0:100]), np.arange(100))
    True
    """

    def __init__(
        self,
        seed: int,
        epoch: int,
        rows: int,
        block: int,
        announce: Callable[[int, int], None] | None = None,
        ahead: int = 1,
    ) -> None:
        self._seed, self._epoch, self._rows, self._block, self._announce = seed, epoch, rows, block, announce
        self._ahead = ahead
        count = ceil_div(rows, block)
        self._blocks = shuffle_order(derive_seed(seed, BLOCKS, 0), epoch, count)
        sizes = np.where(self._blocks == count - 1, rows - block * (count - 1), block)
        # Places in the order at which the windows begin, and the end.
        self._starts = np.append(np.add.accumulate(sizes)[::WINDOW] - sizes[::WINDOW], rows)
        self._drawn: tuple[int, Array] = (-1, np.zeros(0, np.int64))

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_announce": None}

    def __getitem__(self, places: slice) -> Array:
        """Return the row numbers at ``places``, a slice of step 1, int64."""
        start, stop, _ = places.indices(self._rows)
        parts = []
        for number in range(int(np.searchsorted(self._starts, start, "right")) - 1, len(self._starts) - 1):
            first = int(self._starts[number])
            if first >= stop:
                break
            parts.append(self._window(number)[max(0, start - first) : stop - first])
        return parts[0] if len(parts) == 1 else np.concatenate(parts or [self._drawn[1][:0]])

    def _window(self, number: int) -> Array:
        if self._drawn[0] != number:
            if self._announce is not None:
                follows = number > 0 and number == self._drawn[0] + 1
                for window in range(number + self._ahead if follows else number, number + 1 + self._ahead):
                    for first, last in self._ranges(window):
                        self._announce(first, last)
            self._drawn = number, shuffle_ranges(self._seed, self._epoch, self._ranges(number))
        return self._drawn[1]

    def _ranges(self, number: int) -> list[tuple[int, int]]:
        """Return the ranges of rows of a window's blocks, in ascending order; none after the last window."""
        firsts = np.sort(self._blocks[number * WINDOW : (number + 1) * WINDOW]) * self._block
        return [(int(first), min(int(first) + self._block, self._rows)) for first in firsts]
