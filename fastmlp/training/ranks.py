"""Ranks: the pieces of each batch, which of them this rank computes, and agreement of all ranks on what comes next."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import numpy as np

from .._common.errors import DivergenceError, RankError
from .._common.group import Group, is_power_of_two
from .._common.threads import choose_threads, usable_threads
from .._common.validation import Array, as_integer

if TYPE_CHECKING:
    from ..modules import Module

__all__ = ["Ranks", "agree", "default_pieces", "describe", "require_group", "together"]

_ROWS = 64  # least rows of a piece by default
_MESSAGE = 400  # most bytes of the message of another rank's exception


def default_pieces(batch: int, rows: int = _ROWS) -> int:
    """Return the number of pieces of a batch: the largest power of two that leaves at least ``rows`` rows each.

    Examples
    --------
    >>> [default_pieces(batch) for batch in (1, 64, 127, 128, 1024)]
    [1, 1, 1, 2, 16]
    """
    return 1 << max(0, (batch // rows).bit_length() - 1)


class Ranks:
    """Ranks of a fit, and the pieces of its batches.

    The gradient of a batch is the sum over its pieces as a binary tree (`tree_sum`). Piece j of P has the rows
    n j // P to n (j + 1) // P - 1 of a batch of n rows. A rank computes P / R successive pieces, a subtree, so that the
    result does not depend on the number of ranks R.

    Parameters
    ----------
    group : Group or None
        None for one process.
    pieces : int, "off" or None
        Number of pieces, a power of two. "off" makes one for each rank, so that results depend on the number of ranks.
        None takes the default for the batch.
    batch : int
        Rows of a batch.

    Attributes
    ----------
    group : Group
    total : int
        Number of pieces of a batch.
    first, count : int
        Number of this rank's first piece, and how many it has.
    label : int or str
        Pieces as part of the identity of a fit.

    Raises
    ------
    ValueError
        If ``pieces`` is no power of two, or the number of ranks does not divide it.

    Examples
    --------
    >>> ranks = Ranks(None, 4, 128)
    >>> ranks.bounds(10)
    [(0, 2), (2, 5), (5, 7), (7, 10)]
    """

    def __init__(self, group: Group | None, pieces: int | str | None, batch: int) -> None:
        require_group(group)
        self.group = Group() if group is None else group
        self.label: int | str
        if isinstance(pieces, str):
            if pieces != "off":
                raise ValueError(f"pieces is {pieces!r}; expected a power of two, 'off' or None.")
            self.label, self.total = "off", self.group.size
        else:
            self.label = self.total = default_pieces(batch) if pieces is None else as_integer(pieces, "pieces")
            if not is_power_of_two(self.total):
                raise ValueError(f"pieces is {pieces}; expected a power of two, or 'off'.")
        if self.total % self.group.size:
            source = f"the default for batches of {batch} rows" if pieces is None else "as given"
            number = f"{self.total} piece{'' if self.total == 1 else 's'}"
            raise ValueError(
                f"There are {self.group.size} ranks, and batches have {number} ({source}); expected ranks that divide "
                "the pieces, a larger power of two for pieces, or 'off'."
            )
        self.count = self.total // self.group.size
        self.first = self.group.rank * self.count

    @property
    def leads(self) -> bool:
        """Whether this is rank 0, which calls the callbacks."""
        return self.group.rank == 0

    @property
    def several(self) -> bool:
        """Whether there are other ranks."""
        return self.group.size > 1

    def bounds(self, rows: int) -> list[tuple[int, int]]:
        """Return (first row, end) of each of this rank's pieces of a batch."""
        places = [rows * piece // self.total for piece in range(self.first, self.first + self.count + 1)]
        return list(zip(places, places[1:], strict=False))

    def agree(self, error: BaseException | None = None, *numbers: float) -> list[float]:
        """Return the sum of each number over the ranks, or raise on all of them; see `agree`."""
        return agree(self.group, error, *numbers)

    def threads(self, model: Module, batch: int) -> int:
        """Return the default number of threads: a share of the processors, or as many as a step is worth."""
        from ..engine.support import Unsupported, layers_of, work_of

        usable = usable_threads().count
        if usable >= (os.cpu_count() or 1):  # no rank is bound to some of the processors
            usable = max(1, usable // self.group.local_size)
        try:
            work = work_of(layers_of(model), batch) / self.group.size
        except Unsupported:
            return 1
        return min(usable, choose_threads(None, work, max(1, batch // self.group.size)).count)

    @contextlib.contextmanager
    def summing(self, batches: int, size: int, dtype: Any) -> Iterator[None]:
        """Context of steps that sum ``size`` numbers and a loss for each of a number of batches.

        If this rank raises before it has made all sums, one sum of NaN lets the other ranks leave theirs.
        """
        before = self.group.sums
        try:
            yield
        except DivergenceError:
            raise  # all ranks have the same loss
        except BaseException:
            if self.several and self.group.failure is None and self.group.sums < before + batches:
                self.group.sum(np.full(size, np.nan, dtype), np.full(1, np.nan))
            raise

    def deal(self, count: int, width: int, work: Callable[[int], Array]) -> Array:
        """Return the results (count, width) of ``work(0)`` to ``work(count - 1)``, of which each rank computes some."""
        found, error = np.zeros((count, width)), None
        try:
            for number in range(self.group.rank, count, self.group.size):
                found[number] = work(number)
        except BaseException as raised:
            error = raised
        self.agree(error)
        flat = found.reshape(-1)  # each number is that of one rank plus zeros
        self.group.sum(flat)
        return found

    @contextlib.contextmanager
    def entered(self, manager: AbstractContextManager[Any]) -> Iterator[None]:
        """Enter and leave a context manager on all ranks, which all raise if one of them does."""
        with contextlib.ExitStack() as stack:
            with together(self.group):
                stack.enter_context(manager)
            yield
            with together(self.group):
                stack.close()


def require_group(group: Any) -> None:
    """Raise ValueError unless ``group`` is a group or None."""
    if group is not None and not isinstance(group, Group):
        raise ValueError(f"group is {group!r}; expected a Group, such as fastmlp.distributed.mpi(), or None.")


@contextlib.contextmanager
def together(group: Group | None) -> Iterator[None]:
    """Context in which an exception of one rank becomes one of all, at its end; none for a single process."""
    error: BaseException | None = None
    try:
        yield
    except BaseException as raised:
        if group is None or group.size == 1:
            raise
        error = raised
    if group is not None:
        agree(group, error)


def agree(group: Group, error: BaseException | None = None, *numbers: float) -> list[float]:
    """Raise on all ranks if one of them has an exception; else return the sum of each number over the ranks.

    This rank's exception is raised as it is, and that of another rank as a `RankError`. A rank that diverged because
    another one failed raises that one's exception too. Ctrl-C on one rank interrupts all.

    Raises
    ------
    RankError
        If another rank raised an exception.
    KeyboardInterrupt
        If another rank was interrupted.
    """
    if group.size == 1:
        if error is not None:
            raise error
        return list(numbers)
    size = group.size
    if group.failure is not None:  # ranks may wait for a message that does not come
        group.abort(describe(group.failure))
    slots = np.zeros(3 * size + len(numbers))
    if error is not None:
        kind = 2 if _is_own(error) else 1 if isinstance(error, KeyboardInterrupt) else 0
        slots[kind * size + group.rank] = 1
    slots[3 * size :] = numbers
    group.sum(slots)
    group.parted = bool(slots[: 3 * size].any())
    if slots[2 * size : 3 * size].any():
        _raise_of(group, int(slots[2 * size : 3 * size].argmax()), error)
    if slots[size : 2 * size].any():
        raise error if isinstance(error, KeyboardInterrupt) else KeyboardInterrupt
    if error is not None:  # all have diverged
        raise error
    if slots[:size].any():
        raise RankError(f"Rank {int(slots[:size].argmax())} has diverged, but not this one.")
    return [float(value) for value in slots[3 * size :]]


def _raise_of(group: Group, failed: int, error: BaseException | None) -> None:
    """Raise the exception of the rank ``failed`` or, on a rank with one, its own."""
    text = np.zeros(_MESSAGE)
    if group.rank == failed:
        assert error is not None
        data = f"{group.name}: {describe(error)}".encode()[:_MESSAGE]
        text[: len(data)] = list(data)
    group.sum(text)
    if error is not None and _is_own(error):
        raise error
    raise RankError(bytes(text[text > 0].astype(np.uint8)).decode(errors="replace")) from None


def _is_own(error: BaseException) -> bool:
    """Return whether an exception began on this rank, and is not one that all ranks or no rank may have."""
    return not isinstance(error, (DivergenceError, KeyboardInterrupt, RankError))


def describe(error: BaseException) -> str:
    """Return an exception as one line."""
    text = " ".join(str(error).splitlines())
    return text if isinstance(error, ValueError) and text else f"{type(error).__name__}: {text}".removesuffix(": ")
