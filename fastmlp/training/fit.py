"""State of a running `Trainer.fit`: validated arguments, and the identity that a resumed fit must share."""

from __future__ import annotations

import functools
import hashlib
import json
import time
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from .._common.arithmetic import ceil_div
from .._common.digests import array_digests
from .._common.errors import ResumeError, warn_user
from .._common.group import Group
from .._common.mapped import AHEAD, SINGLE_PAGES, MappedFiles
from .._common.validation import Array, as_integer
from ..callbacks.base import CallbackList
from ..engine.denominators import loss_denominators
from ..io.mapped_reads import GuardedReads
from .augmentation import Augmentations
from .batches import TrainingData
from .ranks import Ranks
from .row_order import choose_order

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

    from .trainer import Trainer

__all__ = ["Fit"]

_BLOCK = 1 << 24  # bytes of rows per block of a digest
_BY_BLOCKS = "by blocks "  # start of the fingerprint of rows; those of earlier versions have none


class Fit:
    """Running fit of a trainer, with validated arguments.

    Parameters
    ----------
    trainer : Trainer
    train : TrainingData
    held_out : TrainingData or None
        Validation rows.
    saved_shuffle : str or None
        Kind of the order of the rows in the fit that is resumed.
    **options
        As for `Trainer.fit`.

    Attributes
    ----------
    size, accumulate : int
        Rows of a batch, and batches of a step.
    used : int
        Rows of an epoch.
    planned, every : int
        Steps of the whole fit, and from one evaluation to the next.
    order : RowOrder
        Order of the rows in each epoch.
    ranks : Ranks or None
        Pieces of the batches and the ranks that compute them; None for batches in one piece.
    end : int
        Number of the last step.
    began : float
        Time of the beginning by time.perf_counter, less the seconds that a resumed fit had taken before.

    Raises
    ------
    ValueError
        If an argument is out of range or does not fit the data.
    """

    def __init__(
        self,
        trainer: Trainer,
        train: TrainingData,
        held_out: TrainingData | None,
        *,
        batch_size: int,
        accumulate: int,
        epochs: int | None,
        max_steps: int | None,
        eval_every: int | None,
        shuffle: bool | str,
        drop_last: bool,
        augment: Any,
        callbacks: Any,
        saved_shuffle: str | None,
        reads: GuardedReads,
        group: Group | None = None,
        pieces: int | str | None = None,
    ) -> None:
        self._trainer, self.train, self.held_out = trainer, train, held_out
        self.reads, self.listeners = reads, CallbackList(callbacks, group is None or group.rank == 0)
        # Of the callbacks of all ranks, see `agree_on_callbacks`.
        self.may_change_model, self.looks_at_model = self.listeners.may_change_model, self.listeners.looks_at_model
        self._listens_to_steps = False
        rows = len(train)
        self.size, self.accumulate = as_integer(batch_size, "batch_size"), as_integer(accumulate, "accumulate")
        size = self.size * self.accumulate
        if epochs is not None and max_steps is not None:
            raise ValueError(f"fit got epochs={epochs!r} and max_steps={max_steps!r}; expected one of them.")
        self.used = rows - (rows % size if drop_last else 0)
        if not self.used:
            raise ValueError(f"drop_last leaves no batch: the set has {rows} rows; expected at least {size}.")
        # A batch larger than the data set is the whole set.
        self.size = min(self.size, rows)
        self.accumulate = min(self.accumulate, ceil_div(rows, self.size))
        self.ranks = None if group is None and pieces is None else Ranks(group, pieces, self.size)
        an_epoch = ceil_div(self.used, self.size * self.accumulate)
        self.planned = an_epoch * as_integer(10 if epochs is None else epochs, "epochs")
        if max_steps is not None:
            self.planned = as_integer(max_steps, "max_steps")
        self.every = an_epoch if eval_every is None else as_integer(eval_every, "eval_every")
        self.augment = Augmentations(augment, trainer.model, train.X.shape[1], train.outputs, train.dtype)
        self.drop_last = bool(drop_last)
        self._mapped = MappedFiles((train.X, train.y, train.weight))
        self._reader: ThreadPoolExecutor | None = None
        self.order = choose_order(shuffle, self._mapped, train.X.shape[1], saved_shuffle)
        if self.order.kind == "windows" and train.index is not None:  # blocks of rows that are near each other
            self.train = replace(train, index=np.sort(train.index))
        self.end = trainer.steps + self.planned
        self.began = time.perf_counter()

    @property
    def group(self) -> Group | None:
        """Group of the ranks, None for a fit in one piece."""
        return None if self.ranks is None else self.ranks.group

    def agree_on_callbacks(self) -> None:
        """Find out what the callbacks of all ranks together do."""
        assert self.ranks is not None
        ours = self.may_change_model, self.looks_at_model, self.listens("on_step")
        found = [number > 0 for number in self.ranks.agree(None, *map(float, ours))]
        self.may_change_model, self.looks_at_model, self._listens_to_steps = found

    def listens(self, event: str) -> bool:
        """Whether a callback of any rank handles "on_step", or one of this rank another event."""
        return self.listeners.listens(event) or (event == "on_step" and self._listens_to_steps)

    @contextmanager
    def reads_of_steps(self) -> Iterator[None]:
        """Advise the system how the steps read mapped files, and end `read_block` after the steps.

        Rows in random order of a file that does not fit into the memory are read by single pages: most of what the
        system would read around them would leave the memory before it is used.
        """
        scattered = self.order.kind != "none" and self._mapped.exceed_memory
        try:
            with self._mapped.advised(SINGLE_PAGES if scattered else AHEAD):
                yield
        finally:
            if self._reader is not None:
                self._reader.shutdown(cancel_futures=True)
                self._reader = None
            self._mapped.close()

    @property
    def windows_ahead(self) -> int | None:
        """Number of windows after the present one of which `read_block` reads the blocks; None to read no blocks."""
        if self.order.kind != "windows" or not self._mapped.exceed_memory:
            return None
        window = self._mapped.nbytes * self.order.window_rows // len(self.train.X)
        free = self._mapped.free or 0
        # Each needs as much again, as the rest of the process and pages that were read before take memory too.
        return 1 if 4 * window <= free else 0 if 2 * window <= free else None

    def read_block(self, first: int, last: int) -> None:
        """Bring the training rows ``first`` to ``last - 1`` of mapped files into memory, by another thread."""
        index = self.train.index
        if index is not None:
            first, last = int(index[first]), int(index[last - 1]) + 1
        if self._reader is None:
            from concurrent.futures import ThreadPoolExecutor

            self._reader = ThreadPoolExecutor(1, thread_name_prefix="fastmlp-read")
        self._reader.submit(self._mapped.read, first, last)

    def reads_of_passes(self) -> AbstractContextManager[None]:
        """Advise the system to read mapped files ahead, for a pass over the rows between steps."""
        return self._mapped.advised(AHEAD)

    @functools.cached_property
    def _may_lack_weight(self) -> bool:
        # Mixup turns class indices into rows, which all count in the loss.
        return self._trainer.loss.may_ignore_rows and self.train.y.ndim == 1 and self.augment.mixup is None

    def weightless(self, index: Array, bounds: Array) -> Array | None:
        """Return a mask of the steps whose rows have only classes of weight 0, or None; arguments as `Engine.run`."""
        if not self._may_lack_weight:
            return None
        rows = index if self.train.index is None else self.train.index[index]
        found: Array = np.isinf(loss_denominators(self._trainer.loss, self.train.y, self.train.weight, rows, bounds))
        return found

    @functools.cached_property
    def identity(self) -> dict[str, Any]:
        """Configurations, arguments and fingerprints that a resumed fit must share; the first use reads all data."""
        trainer = self._trainer
        with self.reads_of_passes():
            training_rows = _fingerprint(self.train)
            validation_rows = None if self.held_out is None else _fingerprint(self.held_out)
        return {
            "model": trainer.model.config(),
            "constants of the model": _digest(
                trainer.model.backend.to_numpy(module.buffers[name])
                for module in trainer.model.modules()
                for name in module.buffers
            ),
            "loss": trainer.loss.config(),
            "optimizer": trainer.optimizer.config(),
            "l2": trainer.l2,
            "seed": trainer.seed,
            "steps": self.planned,
            "batch size": self.size,
            "accumulate": self.accumulate,
            "evaluation interval": self.every,
            "shuffle": self.order.kind,
            "drop_last": self.drop_last,
            "augment": self.augment.config(),
            "training rows": training_rows,
            "validation rows": validation_rows,
            "kernels": _kernels(trainer),
            "pieces": None if self.ranks is None else self.ranks.label,
        }

    def require_same(self, identity: dict[str, Any], where: Any) -> None:
        """Raise `ResumeError` unless the fit that was saved in ``where`` is this one; warn where its kernels differ."""
        ours: dict[str, Any] = json.loads(json.dumps(self.identity))
        identity = {"pieces": None, **identity}  # states of earlier versions
        if set(ours) != set(identity):
            others = ", ".join(sorted(set(ours) ^ set(identity)))
            raise ResumeError(
                f"{where} cannot be resumed: another version of fastmlp wrote it; they differ in {others}."
            )
        for key, rows in (("training rows", self.train), ("validation rows", self.held_out)):
            if isinstance(identity[key], str) and not identity[key].startswith(_BY_BLOCKS) and rows is not None:
                ours[key] = _digest(_arrays_of(rows))
        for key in ours:
            if ours[key] == identity[key]:
                continue
            if key == "kernels":
                warn_user(
                    f"{where} was saved by other kernels ({_short(identity[key])}, here {_short(ours[key])}); "
                    "the fit goes on, but its last bits may differ from those of one without a break.",
                    UserWarning,
                )
            else:
                raise ResumeError(
                    f"{where} cannot be resumed: its {key} is {_short(identity[key])}, here it is {_short(ours[key])}."
                )

    def require_equal_ranks(self, identity: dict[str, Any]) -> None:
        """Raise ValueError on a rank whose `identity` (arguments, data, model, kernels) is not that of rank 0."""
        assert self.ranks is not None
        ours = json.loads(json.dumps(identity))
        theirs = self.ranks.group.share(ours)
        for key, value in ours.items():
            if value != theirs[key]:
                raise ValueError(
                    f"The ranks differ in {key}: {_short(value)} here, {_short(theirs[key])} on rank 0; expected "
                    "the same on all ranks."
                )


def _fingerprint(rows: TrainingData) -> str:
    """Return the digest of features, targets and weights, and of a subset of the rows that the weights do not give."""
    digest = hashlib.sha256()
    for array in _arrays_of(rows):
        digest.update(b"none;" if array is None else _header(array) + "".join(array_digests(array)).encode())
    return f"{_BY_BLOCKS}{digest.hexdigest()[:16]}"


def _arrays_of(rows: TrainingData) -> list[Any]:
    given = () if rows.weight is None else np.flatnonzero(rows.weight)
    chosen = [] if rows.index is None or np.array_equal(rows.index, given) else [rows.index]
    return [rows.X, rows.y, rows.weight, *chosen]


def _header(array: Any) -> bytes:
    return f"{tuple(array.shape)} {array.dtype.str};".encode()


def _digest(arrays: Iterable[Any]) -> str:
    """Return a SHA-256 digest of arrays that is independent of their memory layout."""
    digest = hashlib.sha256()
    for array in arrays:
        if array is None:
            digest.update(b"none;")
            continue
        digest.update(_header(array))
        array = array if array.shape else array.reshape(1)
        step = max(1, _BLOCK // max(1, int(np.prod(array.shape[1:])) * array.dtype.itemsize))
        for start in range(0, len(array), step):
            digest.update(np.ascontiguousarray(array[start : start + step]).data)
    return digest.hexdigest()[:16]


def _kernels(trainer: Trainer) -> str:
    """Return the version of the kernels, on which the bits of the results depend."""
    from .. import __version__

    if trainer.model.backend_name == "numba":
        from .._kernels.cpu.jit import version

        return f"numba {version()}"
    return f"{trainer.model.backend_name} of fastmlp {__version__}, NumPy {np.__version__}"


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
