"""Callbacks: what may happen beside training, at its beginning, steps, evaluations and end."""

from __future__ import annotations

import contextlib
import json
import math
import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from . import checkpoint
from .files import LineFile
from .history import Record
from .validation import Array, as_integer, as_number

if TYPE_CHECKING:
    from .trainer import Trainer

__all__ = ["Callback", "CallbackList", "EarlyStopping", "MetricsFile", "SaveModel", "Watch", "as_callbacks"]


class Callback:
    """What `Trainer.fit` calls; override what you need.

    A callback need not derive from this class: an object with some of these methods will do, and a plain
    function ``f(trainer, record)`` is called at each evaluation. ``trainer.stop()`` ends the run after
    the current step.

    Attributes
    ----------
    may_change_model : bool
        Whether its `on_evaluation` may write to the model's or the optimizer's arrays: False saves the trainer to look.
    looks_at_model : bool
        Whether its `on_progress` may read or write these arrays: False saves the trainer to have them ready, and
        to keep those of the last evaluation apart.
    """

    may_change_model: bool = True
    looks_at_model: bool = True

    def on_fit_begin(self, trainer: Trainer) -> None:
        """Before the first step; ``trainer.planned_steps`` says how many there will be."""

    def on_step(self, trainer: Trainer, step: int, loss: float) -> None:
        """After update number ``step`` (from 1, over all fits), whose batch had the loss ``loss``."""

    def on_progress(self, trainer: Trainer) -> None:
        """Every few hundredths of a second, between two steps; ``trainer.steps`` says how far it has come.

        Unlike `on_step`, which has the trainer come back to Python after each update, it costs nothing.
        """

    def on_evaluation(self, trainer: Trainer, record: Record) -> None:
        """After each evaluation; for the record's keys see `History`."""

    def on_fit_end(self, trainer: Trainer) -> None:
        """When the run ends, by an error or an interruption too."""


def as_callbacks(callbacks: Any) -> list[Any]:
    """What is given as ``callbacks``: several, one, or None, as a list."""
    if callbacks is None:
        return []
    listens = any(hasattr(callbacks, event) for event in CallbackList._EVENTS)
    if listens or isinstance(callbacks, (str, bytes, type)) or not hasattr(callbacks, "__iter__"):
        return [callbacks]
    return list(callbacks)


class CallbackList:
    """The callbacks of one fit, checked once and sorted by what they listen to."""

    _EVENTS = ("on_fit_begin", "on_step", "on_progress", "on_evaluation", "on_fit_end")

    def __init__(self, callbacks: Any) -> None:
        self._listeners: dict[str, list[Callable[..., None]]] = {event: [] for event in self._EVENTS}
        self.may_change_model = self.looks_at_model = False
        # Those with a state that belongs to the fit's: pairs (fit for JSON, arrays or None).
        self.remembering: list[Any] = []
        for callback in as_callbacks(callbacks):
            methods = {event: getattr(callback, event) for event in self._EVENTS if hasattr(callback, event)}
            if not methods and callable(callback):
                methods = {"on_evaluation": callback}
            if not methods or isinstance(callback, type):
                raise ValueError(
                    f"callbacks holds {callback!r}; expected functions f(trainer, record), or objects with "
                    f"one of {', '.join(self._EVENTS)}."
                )
            if hasattr(callback, "state_dict") and hasattr(callback, "load_state_dict"):
                self.remembering.append(callback)
            for event, method in methods.items():
                # An event that a subclass leaves alone is not worth a call at each step.
                if getattr(method, "__func__", None) is not getattr(Callback, event):
                    self._listeners[event].append(method)
                    if event == "on_evaluation" and getattr(callback, "may_change_model", True):
                        self.may_change_model = True
                    if event == "on_step" or (event == "on_progress" and getattr(callback, "looks_at_model", True)):
                        self.looks_at_model = True

    def listens(self, event: str) -> bool:
        """Whether any of them wants to know."""
        return bool(self._listeners[event])

    def __getattr__(self, event: str) -> Callable[..., None]:
        listeners = self.__dict__["_listeners"][event]

        def call(*arguments: Any) -> None:
            for listener in listeners:
                listener(*arguments)

        return call

    @contextlib.contextmanager
    def running(self, trainer: Trainer, *, resumed: bool = False) -> Iterator[None]:
        """on_fit_begin now, and on_fit_end of every callback when the block ends, however it ends.

        ``resumed``: those that remember have begun already.
        """
        with contextlib.ExitStack() as ends:
            for end in reversed(self._listeners["on_fit_end"]):
                ends.callback(end, trainer)
            for begin in self._listeners["on_fit_begin"]:
                if not (resumed and getattr(begin, "__self__", None) in self.remembering):
                    begin(trainer)
            yield


class MetricsFile(Callback):
    """One line of JSON for each evaluation, whole and on the disk at once; null for what does not apply.

    Parameters
    ----------
    path : path-like
        The file; an old one is overwritten when the fit begins.
    """

    may_change_model = False
    _heading: str | None = None

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = path
        self._file: LineFile | None = None

    def _line(self, record: Record) -> str:
        return json.dumps(record, allow_nan=False)

    def on_fit_begin(self, trainer: Trainer) -> None:
        """Open the file; of a fit that goes on, with what was measured before."""
        self._file = LineFile(self.path)
        if self._heading is not None:
            self._file.write(self._heading)
        for record in trainer.history:
            self.on_evaluation(trainer, record)

    def on_evaluation(self, trainer: Trainer, record: Record) -> None:
        """Append the record."""
        if self._file is not None:
            self._file.write(self._line(record))

    def on_fit_end(self, trainer: Trainer) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()


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
            checkpoint.save(model, self.path, preprocessing=self.preprocessing)
            self._saved_at = weights


class Watch:
    """The best value of a measure so far.

    Parameters
    ----------
    monitor : {"val_loss", "val_accuracy", "train_loss"} or None
        None: val_loss, or train_loss in a fit without validation.
    min_delta : float
        By how much a value has to be better to count.
    """

    def __init__(self, monitor: str | None, min_delta: float = 0.0) -> None:
        if monitor not in (None, "val_loss", "val_accuracy", "train_loss"):
            raise ValueError(f"monitor is {monitor!r}; expected 'val_loss', 'val_accuracy', 'train_loss' or None.")
        self.monitor, self.min_delta = monitor, as_number(min_delta, "min_delta", 0)
        self.start()

    def start(self) -> None:
        """Forget what was."""
        self.best: float | None = None
        self.best_step: int | None = None

    def improves(self, step: int, record: Record, who: str) -> bool:
        """Whether the record's value is the best so far; it is noted. NaN never is.

        Raises
        ------
        ValueError
            If the fit does not measure it.
        """
        monitor = self.monitor or ("train_loss" if record["val_loss"] is None else "val_loss")
        value = record[monitor]
        if value is None:
            raise ValueError(f"{who} watches {monitor}, which this fit does not measure; give it validation rows.")
        sign = 1 if monitor == "val_accuracy" else -1
        better = not math.isnan(value) and (self.best is None or sign * (value - self.best) > self.min_delta)
        if better:
            self.best, self.best_step = value, step
        return better


class EarlyStopping(Callback):
    """End the run when a measure has not become better for some evaluations.

    Parameters
    ----------
    patience : int
        Evaluations in a row without a better value, after which the run ends.
    min_delta : float
        By how much a value has to be better to count.
    monitor : {"val_loss", "val_accuracy", "train_loss"}, optional
        The measure; None takes val_loss, or train_loss in a fit without validation.
    restore_best : bool
        Whether the model gets the weights of its best evaluation when the run ends, whether early or after all planned
        steps; not after an interruption or an error, so that a further `fit` can go on. The optimizer keeps its state.
        Give this callback before those that save the model.

    Attributes
    ----------
    best : float or None
        The best value of the last fit; best_step : int or None, the step it belongs to.
    stopped : bool
        Whether the last fit was ended by this callback.

    Raises
    ------
    ValueError
        If an argument is out of range; from `fit`, if it has no validation and ``monitor`` needs one.
    """

    may_change_model = False

    def __init__(
        self, patience: int = 10, min_delta: float = 0.0, *, monitor: str | None = None, restore_best: bool = True
    ) -> None:
        self.patience = as_integer(patience, "patience")
        self._watch = Watch(monitor, min_delta)
        self.restore_best = bool(restore_best)
        self.stopped = False
        self._first, self._waited = 0, 0
        self._weights: dict[str, Array] | None = None

    @property
    def best(self) -> float | None:
        """The best value of the last fit."""
        return self._watch.best

    @property
    def best_step(self) -> int | None:
        """The step that it belongs to."""
        return self._watch.best_step

    def on_fit_begin(self, trainer: Trainer) -> None:
        """Forget the fit before."""
        self._watch.start()
        self.stopped = False
        self._first, self._waited, self._weights = trainer.steps, 0, None

    def on_evaluation(self, trainer: Trainer, record: Record) -> None:
        """Compare, and stop the run where it is time."""
        if self._watch.improves(trainer.steps, record, "EarlyStopping"):
            self._waited = 0
            if self.restore_best:
                self._weights = trainer.model.state_dict()
            return
        self._waited += 1
        if self._waited >= self.patience:
            self.stopped = True
            trainer.stop()

    def state_dict(self) -> tuple[dict[str, Any], dict[str, Array] | None]:
        """What it remembers of the fit under way, for `SaveState`."""
        names = ("best", "best_step", "stopped", "_first", "_waited")
        return {name: getattr(self, name) for name in names}, self._weights

    def load_state_dict(self, state: dict[str, Any], arrays: dict[str, Array] | None) -> None:
        """Go on with that."""
        self._watch.best, self._watch.best_step = state["best"], state["best_step"]
        self.stopped = bool(state["stopped"])
        self._first, self._waited, self._weights = int(state["_first"]), int(state["_waited"]), arrays

    def on_fit_end(self, trainer: Trainer) -> None:
        """Put back the best weights."""
        whole = self.stopped or trainer.steps - self._first == trainer.planned_steps
        if whole and self._weights is not None and self.best_step is not None and self.best_step != trainer.steps:
            trainer.model.load_state_dict(self._weights)
            trainer.restored = self.best_step
        self._weights = None
