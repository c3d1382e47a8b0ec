"""Callbacks that save: the state of a fit, and its models."""

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
from .early_stopping import Watch
from .history import Record

if TYPE_CHECKING:
    from ..training.trainer import Trainer

__all__ = ["SaveModel", "ModelCheckpoint", "SaveState"]


class SaveModel(Callback):
    """Save the model when the fit begins, at each evaluation and when the fit ends, see `save`.

    The save at the beginning shows a full disk or a folder without write permission before any time is
    spent; the one at the end also follows an interruption or a divergence, with the last good weights.

    Parameters
    ----------
    path : path-like
    preprocessing : dict, optional
        See `save`.
    at_begin : bool
        Whether to save when the fit begins; not where it goes on with a run whose model is better than this one.
    average : bool
        Whether to save the averages of the weights in their place, see `Trainer`; before the first update those are
        the weights.
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
        """Save the model as it is."""
        if self._misses_averages(trainer):
            raise ValueError("SaveModel(average=True) needs averages; expected a Trainer(average=...).")
        for _ in range(2 if self.at_begin else 0):  # every later save needs room for a second file beside the first
            self._saved_at = None
            self._save(trainer)

    def on_evaluation(self, trainer: Trainer, record: Record) -> None:
        """Save the model."""
        self._save(trainer)

    def on_fit_end(self, trainer: Trainer) -> None:
        """Save the model, unless that was done with these very weights."""
        if not self._misses_averages(trainer):
            self._save(trainer)

    def _misses_averages(self, trainer: Trainer) -> bool:
        return self.average and trainer.optimizer.average is None

    def _save(self, trainer: Trainer) -> None:
        weights = (trainer.steps, trainer.restored)
        if self._saved_at != weights:
            model = trainer.averaged_model() if self.average and trainer.steps else trainer.model
            save(model, self.path, preprocessing=self.preprocessing)
            self._saved_at = weights


class _Now:
    """Says when steps or minutes have gone by."""

    def __init__(self, every_steps: int | None, every_minutes: float | None) -> None:
        self._steps = None if every_steps is None else as_integer(every_steps, "every_steps")
        minutes = None if every_minutes is None else as_number(every_minutes, "every_minutes", 0, open_low=True)
        self._seconds = None if minutes is None else 60 * minutes
        self._last_step, self._last_time = 0, 0.0

    def start(self, step: int) -> None:
        """Count from here."""
        self._last_step, self._last_time = step, time.monotonic()

    def come(self, step: int) -> bool:
        """Whether it is time; if so, count from here."""
        by_steps = self._steps is not None and step - self._last_step >= self._steps
        if not by_steps and (self._seconds is None or time.monotonic() - self._last_time < self._seconds):
            return False
        self.start(step)
        return True


class SaveState(Callback):
    """Save the state of the fit, from which ``Trainer.fit(resume=path)`` goes on, at its beginning and each evaluation.

    The file is written beside the old one and takes its place when it is whole and on the disk: a killed process or a
    full disk leaves the state before. Give this callback after `EarlyStopping`.

    Parameters
    ----------
    path : path-like
    every_steps, every_minutes : optional
        Save between evaluations too, at the first turn of progress (some hundredths of a second apart) after so many
        steps or minutes.

    Raises
    ------
    ValueError
        If an argument is out of range.
    OSError
        From `fit`, if the file cannot be written.
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
        self._now = _Now(every_steps, every_minutes)
        if every_steps is None and every_minutes is None:
            self.on_progress = Callback.on_progress.__get__(self)  # type: ignore[method-assign]
        self._saved_at: int | None = None

    def on_fit_begin(self, trainer: Trainer) -> None:
        """Save, twice: later saves need room for a second file beside the first."""
        self._now.start(trainer.steps)
        self._save(trainer)
        self._save(trainer)

    def on_progress(self, trainer: Trainer) -> None:
        """Save where it is time."""
        if self._now.come(trainer.steps):
            self._save(trainer)

    def on_evaluation(self, trainer: Trainer, record: Record) -> None:
        """Save."""
        self._now.start(trainer.steps)
        self._save(trainer)

    def on_fit_end(self, trainer: Trainer) -> None:
        """Save what has been done since, after an interruption."""
        if self._saved_at != trainer.steps:
            self._save(trainer)

    def _save(self, trainer: Trainer) -> None:
        write_training_state(self.path, trainer.state_dict())
        self._saved_at = trainer.steps


class ModelCheckpoint(Callback):
    """Save models in a folder: last.safetensors, best.safetensors, and step-<n>.safetensors now and then.

    Parameters
    ----------
    folder : path-like
        Made where there is none.
    keep : iterable of {"last", "best"}
        What to save at each evaluation.
    monitor : str, optional
        What "best" goes by, see `EarlyStopping`.
    every_steps, every_minutes : optional
        When to save a model that stays, see `SaveState`.
    preprocessing : dict, optional
        See `save`.

    Attributes
    ----------
    best : float or None
        Of the last fit; best_step : int or None.

    Raises
    ------
    ValueError
        If an argument is out of range.
    OSError
        From `fit`, if a file cannot be written.
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
        self._watch = Watch(monitor)
        self._now = _Now(every_steps, every_minutes)
        if every_steps is None and every_minutes is None:
            self.on_progress = Callback.on_progress.__get__(self)  # type: ignore[method-assign]

    @property
    def best(self) -> float | None:
        """The best value of the last fit."""
        return self._watch.best

    @property
    def best_step(self) -> int | None:
        """The step that it belongs to."""
        return self._watch.best_step

    def on_fit_begin(self, trainer: Trainer) -> None:
        """Make the folder."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._watch.start()
        self._now.start(trainer.steps)

    def on_progress(self, trainer: Trainer) -> None:
        """Save where it is time."""
        if self._now.come(trainer.steps):
            self._save(trainer, f"step-{trainer.steps}")

    def on_evaluation(self, trainer: Trainer, record: Record) -> None:
        """Save what is to be kept."""
        better = "best" in self.keep and self._watch.improves(trainer.steps, record, "ModelCheckpoint")
        for name in self.keep - (set() if better else {"best"}):
            self._save(trainer, name)

    def state_dict(self) -> tuple[dict[str, Any], dict[str, Array] | None]:
        """What it remembers of the fit under way, for `SaveState`."""
        return {"best": self._watch.best, "best_step": self._watch.best_step}, None

    def load_state_dict(self, state: dict[str, Any], arrays: dict[str, Array] | None) -> None:
        """Go on with that."""
        self._watch.best, self._watch.best_step = state["best"], state["best_step"]

    def _save(self, trainer: Trainer, name: str) -> None:
        save(trainer.model, self.folder / f"{name}.safetensors", preprocessing=self.preprocessing)
