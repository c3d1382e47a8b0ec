"""Callbacks that save models and training states."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .._common.validation import Array, as_integer, as_number
from ..io.training_state import write_training_state
from ..modules.saving import save
from .base import Callback
from .early_stopping import BestTracker
from .history import Record

if TYPE_CHECKING:
    from ..training.trainer import Trainer

__all__ = ["SaveModel", "ModelCheckpoint", "SaveState"]


class SaveModel(Callback):
    """Save the model at the beginning of the fit, at each evaluation and at the end.

    The save at the beginning reveals a full disk or a lack of write permission before any time is spent. The save at
    the end takes place after an interruption or a divergence too, with the last finite weights.

    Parameters
    ----------
    path : path-like
        The file, see `save`.
    preprocessing : dict, optional
        See `save`.
    at_begin : bool
        Whether to save when the fit begins. Set to False to keep the model of an earlier fit until the first
        evaluation.
    average : bool
        Whether to save the moving averages of the weights (``Trainer(average=...)``) instead of the weights. Before
        the first update they are equal.

    Raises
    ------
    ValueError
        From `fit`, if ``average`` is True and the trainer keeps no averages.
    OSError
        From `fit`, if the file cannot be written.

    Examples
    --------
    >>> import fastmlp as fm
    >>> X, y, X_test, y_test = fm.load("digits")
    >>> trainer = fm.Trainer(fm.MLP(64, [16], 10, rng=0), fm.CrossEntropyLoss(), fm.Adam())
    >>> history = trainer.fit(X, y, epochs=1, callbacks=[fm.SaveModel("model.safetensors")], rng=0)
    >>> fm.load_model("model.safetensors").out_width
    10
    """

    may_change_model = False

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        preprocessing: dict[str, Any] | None = None,
        at_begin: bool = True,
        average: bool = False,
    ) -> None:
        self.path = path
        self.at_begin, self.average = bool(at_begin), bool(average)
        self.preprocessing = preprocessing
        self._saved_at: tuple[int, int | None] | None = None

    def on_fit_begin(self, trainer: Trainer) -> None:
        """Save the initial model."""
        if self._lacks_averages(trainer):
            raise ValueError("SaveModel(average=True) needs averages; expected a Trainer(average=...).")
        for _ in range(2 if self.at_begin else 0):  # twice, since later saves need disk space for two files
            self._saved_at = None
            self._save(trainer)

    def on_evaluation(self, trainer: Trainer, record: Record) -> None:
        """Save the model."""
        self._save(trainer)

    def on_fit_end(self, trainer: Trainer) -> None:
        """Save the model, unless its weights are saved already."""
        if not self._lacks_averages(trainer):
            self._save(trainer)

    def _lacks_averages(self, trainer: Trainer) -> bool:
        return self.average and trainer.optimizer.average is None

    def _save(self, trainer: Trainer) -> None:
        weights = (trainer.steps, trainer.restored)
        if self._saved_at != weights:
            model = trainer.averaged_model() if self.average and trainer.steps else trainer.model
            save(model, self.path, preprocessing=self.preprocessing)
            self._saved_at = weights


class _Interval:
    """Timer that is due after a number of steps or minutes."""

    def __init__(self, every_steps: int | None, every_minutes: float | None) -> None:
        self._steps = None if every_steps is None else as_integer(every_steps, "every_steps")
        minutes = None if every_minutes is None else as_number(every_minutes, "every_minutes", 0, open_low=True)
        self._seconds = None if minutes is None else 60 * minutes
        self._last_step, self._last_time = 0, 0.0

    def start(self, step: int) -> None:
        """Count from ``step`` and the present time."""
        self._last_step, self._last_time = step, time.monotonic()

    def due(self, step: int) -> bool:
        """Whether the interval has elapsed; if so, start the next one."""
        by_steps = self._steps is not None and step - self._last_step >= self._steps
        if not by_steps and (self._seconds is None or time.monotonic() - self._last_time < self._seconds):
            return False
        self.start(step)
        return True


class SaveState(Callback):
    """Save the training state at the beginning of the fit and at each evaluation.

    ``Trainer.fit(resume=path)`` continues from the state. The file replaces the older one when it is complete and on
    the disk, so that a killed process or a full disk leaves the older state. Give this callback after `EarlyStopping`.

    Parameters
    ----------
    path : path-like
        The file.
    every_steps : int, optional
        Save between evaluations too, after this number of steps.
    every_minutes : float, optional
        Save between evaluations too, after this time in minutes.

    Raises
    ------
    ValueError
        If an argument is out of range.
    OSError
        From `fit`, if the file cannot be written.

    Notes
    -----
    Saves between evaluations take place at the next `Callback.on_progress`, within some hundredths of a second.

    Examples
    --------
    >>> import fastmlp as fm
    >>> X, y, X_test, y_test = fm.load("digits")
    >>> trainer = fm.Trainer(fm.MLP(64, [16], 10, rng=0), fm.CrossEntropyLoss(), fm.Adam())
    >>> history = trainer.fit(X, y, epochs=2, callbacks=[fm.SaveState("state.safetensors")], rng=0)
    >>> import os
    >>> os.path.getsize("state.safetensors") > 0
    True
    """

    may_change_model = False

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        every_steps: int | None = None,
        every_minutes: float | None = None,
    ) -> None:
        self.path = path
        self._interval = _Interval(every_steps, every_minutes)
        if every_steps is None and every_minutes is None:
            self.on_progress = Callback.on_progress.__get__(self)  # type: ignore[method-assign]
        self._saved_at: int | None = None

    def on_fit_begin(self, trainer: Trainer) -> None:
        """Save the state twice, since later saves need disk space for two files."""
        self._interval.start(trainer.steps)
        self._save(trainer)
        self._save(trainer)

    def on_progress(self, trainer: Trainer) -> None:
        """Save the state if the interval has elapsed."""
        if self._interval.due(trainer.steps):
            self._save(trainer)

    def on_evaluation(self, trainer: Trainer, record: Record) -> None:
        """Save the state."""
        self._interval.start(trainer.steps)
        self._save(trainer)

    def on_fit_end(self, trainer: Trainer) -> None:
        """Save the state if steps were made since the last save, as after an interruption."""
        if self._saved_at != trainer.steps:
            self._save(trainer)

    def _save(self, trainer: Trainer) -> None:
        write_training_state(self.path, trainer.state_dict())
        self._saved_at = trainer.steps


class ModelCheckpoint(Callback):
    """Save models in a folder: last.safetensors, best.safetensors, and step-<n>.safetensors at intervals.

    Parameters
    ----------
    folder : path-like
        Created if it does not exist.
    keep : iterable of {"last", "best"}
        Models to save at each evaluation.
    monitor : str, optional
        Metric of the best model, see `EarlyStopping`.
    every_steps, every_minutes : optional
        Interval of step-<n>.safetensors, see `SaveState`.
    preprocessing : dict, optional
        See `save`.

    Attributes
    ----------
    best : float or None
        Best value of the last fit.
    best_step : int or None
        Step of the best value.

    Raises
    ------
    ValueError
        If an argument is out of range.
    OSError
        From `fit`, if a file cannot be written.

    Examples
    --------
    >>> import os
    >>> import fastmlp as fm
    >>> X, y, X_test, y_test = fm.load("digits")
    >>> trainer = fm.Trainer(fm.MLP(64, [16], 10, rng=0), fm.CrossEntropyLoss(), fm.Adam())
    >>> history = trainer.fit(X, y, epochs=2, callbacks=[fm.ModelCheckpoint("models")], rng=0)
    >>> sorted(os.listdir("models"))
    ['best.safetensors', 'last.safetensors']
    """

    may_change_model = False

    def __init__(
        self,
        folder: str | os.PathLike[str],
        keep: Iterable[str] = ("last", "best"),
        *,
        monitor: str | None = None,
        every_steps: int | None = None,
        every_minutes: float | None = None,
        preprocessing: dict[str, Any] | None = None,
    ) -> None:
        self.folder, self.keep, self.preprocessing = Path(folder), frozenset(keep), preprocessing
        if not self.keep <= {"last", "best"}:
            raise ValueError(f"keep is {sorted(self.keep)}; expected some of 'last' and 'best'.")
        self._tracker = BestTracker(monitor)
        self._interval = _Interval(every_steps, every_minutes)
        if every_steps is None and every_minutes is None:
            self.on_progress = Callback.on_progress.__get__(self)  # type: ignore[method-assign]

    @property
    def best(self) -> float | None:
        """Best value of the last fit, None before the first evaluation."""
        return self._tracker.best

    @property
    def best_step(self) -> int | None:
        """Step of the best value."""
        return self._tracker.best_step

    def on_fit_begin(self, trainer: Trainer) -> None:
        """Create the folder and reset the best value."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._tracker.start()
        self._interval.start(trainer.steps)

    def on_progress(self, trainer: Trainer) -> None:
        """Save step-<n>.safetensors if the interval has elapsed."""
        if self._interval.due(trainer.steps):
            self._save(trainer, f"step-{trainer.steps}")

    def on_evaluation(self, trainer: Trainer, record: Record) -> None:
        """Save the last model, and the best one if the metric improved."""
        better = "best" in self.keep and self._tracker.improves(trainer.steps, record, "ModelCheckpoint")
        for name in self.keep - (set() if better else {"best"}):
            self._save(trainer, name)

    def state_dict(self) -> tuple[dict[str, Any], dict[str, Array] | None]:
        """Return the state of the running fit, a dict for JSON and arrays or None, for `SaveState`."""
        return {"best": self._tracker.best, "best_step": self._tracker.best_step}, None

    def load_state_dict(self, state: dict[str, Any], arrays: dict[str, Array] | None) -> None:
        """Restore the state that `state_dict` returned."""
        self._tracker.best, self._tracker.best_step = state["best"], state["best_step"]

    def _save(self, trainer: Trainer, name: str) -> None:
        save(trainer.model, self.folder / f"{name}.safetensors", preprocessing=self.preprocessing)
