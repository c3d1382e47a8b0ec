"""Checked rows of a data set, and the order in which training takes them."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .._common.arithmetic import ceil_div
from .._common.philox import shuffle_order
from .._common.validation import (
    Array,
    as_sample_weight,
    finite_features,
    require_rows,
)
from ..losses import Loss
from ..modules import Module

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

__all__ = ["Order", "Rows", "check_rows", "require_weight"]

_ROWS_AHEAD = 1 << 22  # of all epochs whose order is drawn ahead


@dataclass
class Rows:
    """Features in the user's dtype and memory, targets and weights as the loss takes them."""

    X: Array
    y: Array
    weight: Array | None
    index: Array | None  # the rows whose weight is not 0, where some are
    outputs: int  # columns of the model's outputs, and their dtype
    dtype: np.dtype[Any]

    def __len__(self) -> int:
        return len(self.X if self.index is None else self.index)

    def take(self, rows: Any) -> tuple[Array, Array, Array | None]:
        """(x, y, weight) of a slice or of row numbers."""
        return self.X[rows if self.index is None else self.index[rows]], *self.labels(rows)

    def labels(self, rows: Any) -> tuple[Array, Array | None]:
        """(y, weight) of a slice or of row numbers."""
        if self.index is not None:
            rows = self.index[rows]
        return self.y[rows], None if self.weight is None else self.weight[rows]


def check_rows(
    X: Any, y: Any, sample_weight: Any, model: Module, loss: Loss, where: str, *, measured: bool = False
) -> Rows:
    """Everything that can be wrong with the rows, found before the first of them is used.

    ``measured``: they are to be measured on, and targets that the model's dtype would round stay in float64.
    """
    features = finite_features(X, model.in_width, model.dtype, f"{where}: X")
    require_rows(len(features), f"{where}: X")
    width, dtype = model.out_width, model.dtype
    if width is None or dtype is None:
        first = model.infer(features[:1])
        width, dtype = first.shape[1], first.dtype
    target = loss.check_targets(y, _outputs_like(len(features), width, dtype))
    if measured and target.dtype == np.float32 and (target != np.reshape(np.asarray(y), target.shape)).any():
        target = loss.check_targets(y, _outputs_like(len(features), width, np.dtype(np.float64)))
    if sample_weight is None:
        return Rows(features, target, None, None, width, dtype)
    weight = as_sample_weight(sample_weight, len(features))
    used = np.flatnonzero(weight)
    return Rows(features, target, weight, None if len(used) == len(weight) else used, width, dtype)


def require_weight(rows: Rows, loss: Loss) -> None:
    """Rows of which at least one counts, or there is nothing to learn, and no mean."""
    if not loss.normaliser(*rows.labels(slice(None))) > 0:
        raise ValueError("The class weights of the targets sum to 0; expected a sum above 0.")


def _outputs_like(rows: int, width: int, dtype: np.dtype[Any]) -> Array:
    """A stand-in for outputs, of their shape and dtype but of no size."""
    return np.broadcast_to(np.zeros((), dtype), (rows, width))


class Order:
    """The order of the rows, epoch by epoch, and how far training has come in it.

    The order of an epoch is a function of the seed and the epoch's number alone.

    Attributes
    ----------
    position : (int, int)
        Epochs done, and rows done of the next.
    """

    def __init__(self) -> None:
        self.position = (0, 0)
        self._seed: int | None = None
        self._rows, self._used = 1, 1
        self._drawn: tuple[int, Array] | None = None
        self._coming: dict[int, Future[Array]] = {}
        self._next: tuple[Any, tuple[Array, Array], tuple[int, int]] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_coming": {}, "_next": None}

    @property
    def place(self) -> tuple[int | None, int, int, tuple[int, int]]:
        """How far training has come, and in the order of which seed and rows: an order that gets it goes on equally."""
        return self._seed, self._rows, self._used, self.position

    @place.setter
    def place(self, place: tuple[int | None, int, int, tuple[int, int]]) -> None:
        self._seed, self._rows, self._used, self.position = place
        self._drawn = self._next = None
        self._coming = {}

    @property
    def epoch(self) -> float:
        """Passes so far."""
        return self.position[0] + self.position[1] / self._used

    def start(self, seed: int | None, rows: int, used: int) -> None:
        """Go on with ``used`` of ``rows`` rows an epoch; with another seed or set a new epoch begins.

        ``seed`` None: in the order in which they stand.
        """
        if (seed, rows) != (self._seed, self._rows):
            epoch, row = self.position
            self.position = (epoch + (row > 0), 0)
            self._drawn = None
            self._coming = {}
        self._seed, self._rows, self._used = seed, rows, used

    def take(self, size: int, steps: int, ahead: bool = False, most: int = 0) -> tuple[Array, Array]:
        """Numbers of the rows of the next ``steps`` batches, and the bounds (steps + 1,) of each batch among them.

        With ``ahead`` the order of the epochs that follow is drawn by other threads meanwhile. What `peek` has given is
        taken as it is, up to ``most`` batches.
        """
        if self._next is not None:
            (key, found, after), self._next = self._next, None
            if key == self._key(size) and len(found[1]) <= most + 1:
                self.position = after
                return found
        parts, bounds = [], [np.zeros(1, np.int64)]
        taken = 0
        while steps > 0:
            epoch, row = self.position
            if row >= self._used:
                epoch, row = epoch + 1, 0
            if self._drawn is None or self._drawn[0] != epoch:
                self._drawn = (epoch, self._draw(epoch, 1 + steps * size // self._used if ahead else 0))
            count = min(steps, ceil_div(self._used - row, size))
            last = min(row + count * size, self._used)
            self.position = (epoch, last)
            parts.append(self._drawn[1][row:last])
            bounds.append(np.minimum(np.arange(1, count + 1) * size, last - row) + taken)
            taken, steps = taken + last - row, steps - count
        return parts[0] if len(parts) == 1 else np.concatenate(parts), np.concatenate(bounds)

    def peek(self, size: int, steps: int) -> tuple[Array, Array]:
        """What `take` will give next, if it may be so many steps."""
        key, before, self._next = self._key(size), self.position, None
        try:
            found = self.take(size, steps, True)
            self._next = key, found, self.position
        finally:
            self.position = before
        return found

    def _key(self, size: int) -> Any:
        return self.position, size, self._seed, self._rows, self._used

    def _draw(self, epoch: int, epochs: int) -> Array:
        """The order of an epoch; so many are needed at once, 0 for those that nobody draws ahead."""
        if self._seed is None:
            return np.arange(self._rows)
        if not epochs:
            return shuffle_order(self._seed, epoch, self._rows)
        draw, drawers = _drawers()
        # As many again as are needed now, for the steps that come while the GPU makes these.
        for number in range(epoch, epoch + 1 + max(1, min(2 * epochs, _ROWS_AHEAD // self._rows))):
            if number not in self._coming:
                self._coming[number] = drawers.submit(draw, self._seed, number, self._rows)
        self._coming = {number: order for number, order in self._coming.items() if number >= epoch}
        return self._coming.pop(epoch).result()


@functools.cache
def _drawers() -> tuple[Callable[[int, int, int], Array], ThreadPoolExecutor]:
    """What draws an order, and threads for it."""
    from concurrent.futures import ThreadPoolExecutor

    from .._kernels.cpu.shuffle import shuffle_order as draw  # brings numba along

    draw(0, 0, 1)  # compiled here: not beside what this thread compiles next
    threads = max(1, min(4, (os.cpu_count() or 1) - 1))
    return draw, ThreadPoolExecutor(threads, thread_name_prefix="fastmlp-order")
