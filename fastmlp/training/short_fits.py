"""Short fits: epochs of few rows on the prepared steps of a trainer, for calls that come one after the other.

A `fit` looks at all its arguments, calls listeners, and copies all arrays to the engine and back, which takes as long
as many steps of a small model. `ShortFits.make_epoch` gives the losses, weights and counters of a fit of one epoch,
with the same bits, for checked arguments and without listeners.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from .._common.validation import Array
from ..losses import Loss
from ..modules import Module
from ..optim import Optimizer
from .batches import BatchSampler
from .single_steps import SingleSteps

if TYPE_CHECKING:
    from ..engine.session import Session

__all__ = ["ShortFits"]


class ShortFits(SingleSteps):
    """Base class of `Trainer` that makes epochs of short fits; see there for the parameters and attributes."""

    def __init__(self, model: Module, loss: Loss, optimizer: Optimizer, l2: float) -> None:
        super().__init__(model, loss, optimizer, l2)
        self._order = BatchSampler()
        self._epochs: Session | None = None  # the session for which `prepare_epochs` was called
        # Before the last epoch: all numbers of the engine, and (steps of the optimizer, place).
        self._numbers: Array | None = None
        self._counters: tuple[Any, ...] = ()

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_epochs": None, "_numbers": None}

    @property
    def place(self) -> tuple[Any, ...]:
        """How far training has come, (seed, steps, place in the order of the rows): a trainer that gets it goes on."""
        return self.seed, self.steps, self._order.place

    @place.setter
    def place(self, place: tuple[Any, ...]) -> None:
        self.seed, self.steps, self._order.place = place

    def prepare_epochs(self, X: Array, rows: int) -> bool:
        """Prepare steps on batches of up to ``rows`` rows like X; return False if the engine does not support them."""
        self._epochs = None
        session = self._open_session(None, rows, single=True) if self.model.backend_name == "numba" else None
        if session is None:
            return False
        by_index = self.loss.target_kind == "labels"
        session.engine.prepare(rows, X, by_index).admit(X, by_index)
        self._path.connect(session, self.model, self.loss, self.optimizer)
        if self._path.native is not None:
            self._epochs, self._numbers = session, np.empty_like(session.engine.weights.data)
        return self._epochs is not None

    def make_epoch(
        self, X: Array, target: Array, weight: Array | None, size: int, shuffle: bool
    ) -> tuple[list[float], list[float]] | None:
        """Make the steps of one epoch on one thread; return their losses, and the L2 penalties in them.

        The result is None, without an effect, if `fit` has to make the epoch, or to say what is wrong.

        Parameters
        ----------
        X : ndarray of shape (N, features)
            Of float32 or float64, with unchecked numbers.
        target : ndarray of shape (N,) or (N, O)
            As the loss checks it, with unchecked numbers.
        weight : ndarray of float64, of shape (N,), or None
            Sample weights above 0.
        size : int
            Rows of a batch.
        shuffle : bool
        """
        session, rows = self._epochs, len(X)
        if session is None or session is not self._session or not session.mirror_parameters():
            return None
        native, prepared = self._path.native, session.engine.prepared
        if native is None or prepared is None or native.prepared is not prepared:
            return None
        assert self._numbers is not None and session.mirror is not None
        session.mirror.update()  # before the copy, which may be written into the arrays
        np.copyto(self._numbers, session.engine.weights.data)
        self._counters = self.optimizer.steps, self.place
        losses: list[float] = []
        penalties: list[float] = []
        self._order.start(self.seed if shuffle else None, rows, rows)
        index = self._order.take_epoch()
        if index is not None:
            X, target = X.take(index, 0), target.take(index, 0)
            weight = None if weight is None else weight.take(index)
            for start in range(0, rows, size):
                batch = slice(start, start + size)
                loss = native.fit(self, X[batch], target[batch], None if weight is None else weight[batch])
                if loss is None:
                    break
                losses.append(loss)
                penalties.append(float(prepared.penalties[0]))
            else:
                if math.isfinite(sum(losses)) and session.mirror is not None and session.mirror.finite():
                    return losses, penalties
        self.undo_epoch()
        return None

    def undo_epoch(self) -> None:
        """Restore the weights and counters of before the last `make_epoch`, which may have been interrupted."""
        session = self._epochs
        self.optimizer.steps, self.place = self._counters
        if session is not None and session.mirror is not None:
            assert self._numbers is not None
            np.copyto(session.engine.weights.data, self._numbers)
            session.mirror.write()

    def infer_prepared(self, X: Array) -> Array | None:
        """Return the outputs of few rows with the engine's weights; None if the model has to compute them."""
        session, native = self._epochs, self._path.native
        if session is None or native is None or session.mirror is None or session is not self._session:
            return None
        return native.infer(self, X)  # type: ignore[no-any-return]
