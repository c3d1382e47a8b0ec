"""Early stopping, and the tracker of the best value of a metric."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from .._common.validation import Array, as_integer, as_number
from .base import Callback
from .history import Record

if TYPE_CHECKING:
    from ..training.trainer import Trainer

__all__ = ["EarlyStopping", "BestTracker"]


class BestTracker:
    """Tracker of the best value of a metric.

    Parameters
    ----------
    monitor : {"val_loss", "val_accuracy", "train_loss"} or None
        None: val_loss, or train_loss in a fit without validation.
    min_delta : float
        Least improvement that counts.

    Attributes
    ----------
    best : float or None
    best_step : int or None
        Step of the best value.
    """

    def __init__(self, monitor: str | None, min_delta: float = 0.0) -> None:
        if monitor not in (None, "val_loss", "val_accuracy", "train_loss"):
            raise ValueError(f"monitor is {monitor!r}; expected 'val_loss', 'val_accuracy', 'train_loss' or None.")
        self.monitor, self.min_delta = monitor, as_number(min_delta, "min_delta", 0)
        self.start()

    def start(self) -> None:
        """Reset the best value."""
        self.best: float | None = None
        self.best_step: int | None = None

    def improves(self, step: int, record: Record, callback: str) -> bool:
        """Whether the value of the record is the best so far, which is then stored; NaN never is.

        Raises
        ------
        ValueError
            If the fit does not measure the metric.
        """
        monitor = self.monitor or ("train_loss" if record["val_loss"] is None else "val_loss")
        value = record[monitor]
        if value is None:
            raise ValueError(
                f"{callback} monitors {monitor}, which this fit does not measure; pass validation rows, or monitor "
                "'train_loss'."
            )
        sign = 1 if monitor == "val_accuracy" else -1
        better = not math.isnan(value) and (self.best is None or sign * (value - self.best) > self.min_delta)
        if better:
            self.best, self.best_step = value, step
        return better


class EarlyStopping(Callback):
    """Stop training when a metric has not improved for a number of evaluations.

    Parameters
    ----------
    patience : int
        Number of successive evaluations without an improvement after which the run ends.
    min_delta : float
        Least improvement that counts.
    monitor : {"val_loss", "val_accuracy", "train_loss"}, optional
        The metric. None: val_loss, or train_loss in a fit without validation.
    restore_best : bool
        Whether to restore the weights of the best evaluation when the run ends, early or after all planned steps. They
        are not restored after an interruption or an error, so that a further `fit` can continue. The optimizer keeps
        its state. Give this callback before those that save the model.

    Attributes
    ----------
    best : float or None
        Best value of the last fit.
    best_step : int or None
        Step of the best value.
    stopped : bool
        Whether this callback ended the last fit.

    Raises
    ------
    ValueError
        If an argument is out of range; from `fit`, if ``monitor`` needs validation rows and the fit has none.

    Examples
    --------
    >>> import fastmlp as fm
    >>> X, y, X_test, y_test = fm.load("digits")
    >>> trainer = fm.Trainer(fm.MLP(64, [32], 10, rng=0), fm.CrossEntropyLoss(), fm.Adam())
    >>> stopping = fm.EarlyStopping(patience=3)
    >>> history = trainer.fit(X / 16, y, validation=(X_test / 16, y_test), callbacks=[stopping], epochs=2, rng=0)
    >>> stopping.best == min(history["val_loss"])
    True
    """

    may_change_model = False

    def __init__(
        self, patience: int = 10, min_delta: float = 0.0, *, monitor: str | None = None, restore_best: bool = True
    ) -> None:
        self.patience = as_integer(patience, "patience")
        self._tracker = BestTracker(monitor, min_delta)
        self.restore_best = bool(restore_best)
        self.stopped = False
        self._first, self._waited = 0, 0
        self._weights: dict[str, Array] | None = None

    @property
    def best(self) -> float | None:
        """Best value of the last fit, None before the first evaluation."""
        return self._tracker.best

    @property
    def best_step(self) -> int | None:
        """Step of the best value."""
        return self._tracker.best_step

    def on_fit_begin(self, trainer: Trainer) -> None:
        """Reset the state of the previous fit."""
        self._tracker.start()
        self.stopped = False
        self._first, self._waited, self._weights = trainer.steps, 0, None

    def on_evaluation(self, trainer: Trainer, record: Record) -> None:
        """Compare the metric with its best value, and stop the run if the patience is exhausted."""
        if self._tracker.improves(trainer.steps, record, "EarlyStopping"):
            self._waited = 0
            if self.restore_best:
                self._weights = trainer.model.state_dict()
            return
        self._waited += 1
        if self._waited >= self.patience:
            self.stopped = True
            trainer.stop()

    def state_dict(self) -> tuple[dict[str, Any], dict[str, Array] | None]:
        """Return the state of the running fit, a dict for JSON and arrays or None, for `SaveState`."""
        names = ("best", "best_step", "stopped", "_first", "_waited")
        return {name: getattr(self, name) for name in names}, self._weights

    def load_state_dict(self, state: dict[str, Any], arrays: dict[str, Array] | None) -> None:
        """Restore the state that `state_dict` returned."""
        self._tracker.best, self._tracker.best_step = state["best"], state["best_step"]
        self.stopped = bool(state["stopped"])
        self._first, self._waited, self._weights = int(state["_first"]), int(state["_waited"]), arrays

    def on_fit_end(self, trainer: Trainer) -> None:
        """Restore the best weights."""
        whole = self.stopped or trainer.steps - self._first == trainer.planned_steps
        if whole and self._weights is not None and self.best_step is not None and self.best_step != trainer.steps:
            trainer.model.load_state_dict(self._weights)
            trainer.restored = self.best_step
        self._weights = None
