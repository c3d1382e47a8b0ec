"""State of a running fit: as it is saved and resumed, and as it is reset after an error."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from .._common.errors import ModelFileError, ResumeError
from .._common.validation import Array
from ..callbacks.history import History
from ..losses import Loss
from ..modules import Module
from ..optim import Optimizer
from .short_fits import ShortFits

if TYPE_CHECKING:
    from .fit import Fit

__all__ = ["ResumableFits"]


class ResumableFits(ShortFits):
    """Base class of `Trainer` with the state of a fit; see there for the parameters and attributes."""

    def __init__(self, model: Module, loss: Loss, optimizer: Optimizer, l2: float) -> None:
        super().__init__(model, loss, optimizer, l2)
        self.history = History()
        self._stopping = False
        self._fit: Fit | None = None
        # Since the last evaluation: sum of the losses, number of steps, number of steps whose rows have no weight.
        self._window = (0.0, 0, 0)

    def state_dict(self) -> dict[str, Any]:
        """The state of the running `fit`, for callbacks; `write_training_state` says what is in it.

        Raises
        ------
        ValueError
            If no `fit` is running.
        """
        if self._fit is None:
            raise ValueError("The trainer is in no fit; there is no state to save.")
        return {
            "identity": self._fit.identity,
            "progress": {
                "steps": self.steps,
                "end": self._fit.end,
                "position": self._order.position,
                "window": self._window,
                "last_lr": self.last_lr,
                "stopping": self._stopping,
                "history": self.history.records,
                "seconds": time.perf_counter() - self._fit.began,
            },
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "callbacks": self._fit.listeners.state_dict(),
        }

    def _resume(self, fit: Fit, state: dict[str, Any], where: Any) -> None:
        """Go on with the fit whose `state_dict` was read from ``where``."""
        for listener in fit.listeners.resumed:  # on_fit_begin resets the state that is then restored
            if hasattr(listener, "on_fit_begin"):
                listener.on_fit_begin(self)
        if self._session is not None:
            self._session.detach()
        fit.require_same(state["identity"], where)
        try:
            arrays: dict[str, dict[str, Array]] = {name: {} for name, _ in self.model.named_parameters()}
            for name, kinds in state["optimizer"]["state"].items():
                arrays[name].update(kinds)
            self.model.load_state_dict(state["model"])
            self.optimizer.load_state_dict({**state["optimizer"], "state": arrays})
            fit.listeners.load_state_dict(state["callbacks"], where)
            progress = state["progress"]
            epoch, row = progress["position"]
            total, done, *empty = progress["window"]  # the first versions had two numbers
            self._order.position, self._window = (int(epoch), int(row)), (float(total), int(done), int(*empty))
            self.steps, fit.end = int(progress["steps"]), int(progress["end"])
            self.last_lr, self._stopping = float(progress["last_lr"]), bool(progress["stopping"])
            for record in progress["history"]:
                self.history.append(record)
            fit.began -= float(progress["seconds"])
        except ResumeError:
            raise
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ModelFileError(f"{where} is no training state that fits: {error}.") from error

    def _snapshot(self, apart: bool) -> tuple[Any, ...]:
        """Return the state for `_restore`: with a copy of the arrays if ``apart``, else the session keeps them."""
        if apart:
            arrays, state = self.model.state_dict(), self.optimizer.state_dict()
        else:
            arrays, state = None, {"steps": self.optimizer.steps, "schedule": self.optimizer.schedule.state_dict()}
        return arrays, state, (self.steps, self._order.position, self.last_lr, self._window)

    def _restore(self, snapshot: tuple[Any, ...]) -> None:
        arrays, state, (self.steps, self._order.position, self.last_lr, self._window) = snapshot
        if self._session is not None:
            self._session.invalidate()
        if arrays is None:
            self.optimizer.steps = state["steps"]
            self.optimizer.schedule.load_state_dict(state["schedule"])
        else:
            self.model.load_state_dict(arrays)
            self.optimizer.load_state_dict(state)
