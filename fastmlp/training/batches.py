"""Validated training data, and the sampler of batches."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from .._common.arithmetic import ceil_div
from .._common.philox import LargeOrder, shuffle_order
from .._common.validation import (
    Array,
    as_sample_weight,
    finite_features,
    require_rows,
)
from ..engine.native import has_native
from ..losses import Loss
from ..modules import Module
from .row_order import WindowedOrder

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

__all__ = ["BatchSampler", "RowSubset", "TrainingData", "check_rows", "require_weight"]

_Order: TypeAlias = "Array | WindowedOrder | LargeOrder | range"

_ROWS_AHEAD = 1 << 22  # most rows of all epochs whose order is drawn in advance
_LARGE = 1 << 20  # orders of more rows are held in 4 bytes a row, as those of 8 take 24 while they are drawn


@dataclass
class TrainingData:
    """Validated rows: features in the user's dtype and memory, targets and weights in the form of the loss.

    Attributes
    ----------
    X : ndarray, SparseRows or array on a GPU, of shape (N, features)
    y : ndarray of shape (N,) or (N, O)
    weight : ndarray of shape (N,) or None
    index : ndarray or None
        Numbers of the rows that are used, None if all are: those of weight above 0, or of a `RowSubset`.
    outputs : int
        Number of columns of the model's outputs.
    dtype : numpy.dtype
        Dtype of the model's outputs.
    """

    X: Array
    y: Array
    weight: Array | None
    index: Array | None
    outputs: int
    dtype: np.dtype[Any]

    def __len__(self) -> int:
        return len(self.X if self.index is None else self.index)

    def take(self, rows: Any) -> tuple[Array, Array, Array | None]:
        """Return (x, y, weight) of a slice or an array of row numbers."""
        return self.X[rows if self.index is None else self.index[rows]], *self.labels(rows)

    def labels(self, rows: Any) -> tuple[Array, Array | None]:
        """Return (y, weight) of a slice or an array of row numbers."""
        if self.index is not None:
            rows = self.index[rows]
        return self.y[rows], None if self.weight is None else self.weight[rows]

    def subset(self, index: Array) -> TrainingData:
        """Return the rows of these numbers, less those of weight 0, without a copy of the arrays.

        Raises
        ------
        ValueError
            If their weights sum to 0.
        """
        if self.weight is not None:
            index = index[as_sample_weight(self.weight[index], len(index)) > 0]
        return replace(self, index=index)


@dataclass(frozen=True)
class RowSubset:
    """Some rows of the features, for `Trainer.fit`; the array is not copied.

    The targets and sample weights of the call are those of all rows.

    Attributes
    ----------
    X : array-like or sparse matrix of shape (N, features)
    index : ndarray of int64
        Numbers of the rows.
    """

    X: Any
    index: Array


def check_rows(
    X: Any, y: Any, sample_weight: Any, model: Module, loss: Loss, where: str, *, measured: bool = False
) -> TrainingData:
    """Validate features, targets and weights against a model and a loss.

    Parameters
    ----------
    X, y, sample_weight
        See `Trainer.fit`; ``X`` may be a `RowSubset`.
    model : Module
    loss : Loss
    where : str
        Name of the caller, for messages.
    measured : bool
        Whether the rows are for an evaluation: then targets that the model's dtype would round stay in float64.

    Returns
    -------
    TrainingData

    Raises
    ------
    ValueError
        If an argument has another shape, a value that is not finite, or no rows.
    """
    if y is None:
        raise ValueError(f"{where}: y is None; expected targets, unless X is the path of a folder that has them.")
    X, index = (X.X, X.index) if isinstance(X, RowSubset) else (X, None)
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
        return TrainingData(features, target, None, index, width, dtype)
    weight = as_sample_weight(sample_weight, len(features))
    used = None if weight.all() else np.flatnonzero(weight)
    rows = TrainingData(features, target, weight, used, width, dtype)
    return rows if index is None else rows.subset(index)


def require_weight(rows: TrainingData, loss: Loss) -> None:
    """Raise ValueError if the class weights of all rows are 0, so that no mean loss exists."""
    if not loss.denominator(*rows.labels(slice(None))) > 0:
        raise ValueError("The class weights of the targets sum to 0; expected a sum above 0.")


def _outputs_like(rows: int, width: int, dtype: np.dtype[Any]) -> Array:
    """Return a placeholder for outputs, with their shape and dtype, that occupies no memory."""
    return np.broadcast_to(np.zeros((), dtype), (rows, width))


class BatchSampler:
    """Sampler that draws the order of the rows of each epoch and splits it into batches.

    The order of an epoch is a function of the seed, the number of the epoch and the size of a block, if any.

    Attributes
    ----------
    position : (int, int)
        Number of finished epochs, and of rows taken from the current one.
    announce : callable or None
        Called with the ranges of rows that come next in an order of blocks, see `WindowedOrder`.
    windows_ahead : int
        Number of windows after the present one whose ranges it is called with.

    Examples
    --------
    >>> sampler = BatchSampler()
    >>> sampler.start(None, 5, 5)  # no seed: rows in their own order
    >>> sampler.take(2, 3)
    (array([0, 1, 2, 3, 4]), array([0, 2, 4, 5]))
    """

    def __init__(self) -> None:
        self.position = (0, 0)
        self._seed: int | None = None
        self._rows, self._used = 1, 1
        self._block: int | None = None
        self.announce: Callable[[int, int], None] | None = None
        self.windows_ahead = 1
        self._drawn: tuple[int, _Order] | None = None
        self._coming: dict[int, Future[Array]] = {}
        self._next: tuple[Any, tuple[Array, Array], tuple[int, int]] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_coming": {}, "_next": None, "announce": None}

    @property
    def place(self) -> tuple[int | None, int, int, tuple[int, int], int | None]:
        """State (seed, rows, rows used, position, block); a sampler with an equal state gives equal batches."""
        return self._seed, self._rows, self._used, self.position, self._block

    @place.setter
    def place(self, place: tuple[Any, ...]) -> None:
        self._seed, self._rows, self._used, self.position, *block = place
        self._block = block[0] if block else None  # estimators pickled by earlier versions have none
        self._drawn = self._next = None
        self._coming = {}

    @property
    def epoch(self) -> float:
        """Number of passes over the rows, with the fraction of the current one."""
        return self.position[0] + self.position[1] / self._used

    def start(self, seed: int | None, rows: int, used: int, block: int | None = None) -> None:
        """Set the seed, the number of rows, the number of rows used in an epoch, and the rows of a block.

        A new epoch begins if one of them but the third changes. ``seed`` None keeps the order of the rows. With a
        ``block`` the order is a `WindowedOrder`.
        """
        if (seed, rows, block) != (self._seed, self._rows, self._block):
            epoch, row = self.position
            self.position = (epoch + (row > 0), 0)
            self._drawn = None
            self._coming = {}
        self._seed, self._rows, self._used, self._block = seed, rows, used, block

    def take_epoch(self) -> Array | None:
        """Return the row numbers of the next epoch, without bounds.

        None, without a change, in the midst of an epoch, or if its order is drawn in parts.
        """
        epoch, row = self.position
        parts_only = self._block is not None or self._rows > _LARGE
        if 0 < row < self._used or self._used < self._rows or parts_only:
            return None
        epoch += row > 0
        order = self._draw(epoch, 0)
        order = np.arange(self._rows) if isinstance(order, range) else order
        assert isinstance(order, np.ndarray)
        self._drawn, self.position = (epoch, order), (epoch, self._used)
        return order

    def take(self, size: int, steps: int, ahead: bool = False, most: int = 0) -> tuple[Array, Array]:
        """Return the row numbers of the next ``steps`` batches, and the bounds (steps + 1,) of the batches among them.

        Parameters
        ----------
        size : int
            Rows of a batch; the last batch of an epoch may be smaller.
        steps : int
            Number of batches.
        ahead : bool
            Whether other threads draw the orders of the following epochs in advance.
        most : int
            Most batches to return if `peek` was called before; its result is then returned as it is.

        Returns
        -------
        index, bounds : ndarray of int64
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
            rows = self._drawn[1][row:last]
            parts.append(np.arange(rows.start, rows.stop) if isinstance(rows, range) else rows)
            bounds.append(np.minimum(np.arange(1, count + 1) * size, last - row) + taken)
            taken, steps = taken + last - row, steps - count
        return parts[0] if len(parts) == 1 else np.concatenate(parts), np.concatenate(bounds)

    def peek(self, size: int, steps: int) -> tuple[Array, Array]:
        """Return the result of the next `take` without a change of the position."""
        key, before, self._next = self._key(size), self.position, None
        try:
            found = self.take(size, steps, True)
            self._next = key, found, self.position
        finally:
            self.position = before
        return found

    def _announce(self, first: int, last: int) -> None:
        # Orders keep this method, not the function of a fit, which refers to the data.
        if self.announce is not None:
            self.announce(first, last)

    def _key(self, size: int) -> Any:
        return self.position, size, self._seed, self._rows, self._used, self._block

    def _draw(self, epoch: int, epochs: int) -> _Order:
        """Return the order of an epoch; ``epochs`` are needed at once, 0 to draw none in advance."""
        if self._seed is None:
            return range(self._rows)
        if self._block is not None:
            return WindowedOrder(self._seed, epoch, self._rows, self._block, self._announce, self.windows_ahead)
        if not epochs:
            large = _LARGE < self._rows < 1 << 32
            return (LargeOrder if large else _drawer())(self._seed, epoch, self._rows)
        draw, drawers = _order_pool()
        # Draw as many epochs again, for the steps that are prepared while the GPU computes these.
        for number in range(epoch, epoch + 1 + max(1, min(2 * epochs, _ROWS_AHEAD // self._rows))):
            if number not in self._coming:
                self._coming[number] = drawers.submit(draw, self._seed, number, self._rows)
        self._coming = {number: order for number, order in self._coming.items() if number >= epoch}
        return self._coming.pop(epoch).result()


@functools.cache
def _drawer() -> Callable[[int, int, int], Array]:
    """Return the fastest function that draws an order without a compilation: 7 us for 32 rows, 116 us by NumPy."""
    if has_native():
        from .._kernels.cpu import jit, shuffle

        if jit.LIBRARY is not None:
            return shuffle.shuffle_order
    return shuffle_order


@functools.cache
def _order_pool() -> tuple[Callable[[int, int, int], Array], ThreadPoolExecutor]:
    """Return the function that draws an order, and threads to run it."""
    from concurrent.futures import ThreadPoolExecutor

    from .._kernels.cpu.shuffle import shuffle_order as draw  # may import Numba

    draw(0, 0, 1)  # compile now, not concurrently with other kernels
    threads = max(1, min(4, (os.cpu_count() or 1) - 1))
    return draw, ThreadPoolExecutor(threads, thread_name_prefix="fastmlp-order")
