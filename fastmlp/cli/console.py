"""What ``fastmlp train`` prints: a table that grows by one line each evaluation."""

from __future__ import annotations

import importlib
import math
import sys
from collections.abc import Callable
from typing import Any

from ..callbacks.base import Callback
from ..callbacks.history import Record
from ..training.trainer import Trainer
from .info import kernel_cache

__all__ = ["MetricsTable", "shown_metric"]


class MetricsTable(Callback):
    """One line on standard output for each evaluation, under a heading.

    Parameters
    ----------
    bar : bool
        Whether a progress bar is on the terminal, to be moved out of the way.

    Attributes
    ----------
    empty : bool
        Whether there was no evaluation yet.
    """

    def __init__(self, bar: bool) -> None:
        self.bar = bar
        self._watch: Any = None
        self.empty = True

    def on_fit_begin(self, trainer: Trainer) -> None:
        """Say so if kernels are compiled from now on: the first run waits for that."""
        if trainer.model.backend_name == "numba":
            self._watch = importlib.import_module("numba.core.event")
            self._listener = _listener(self._watch, self._print)
            self._watch.register("numba:compile", self._listener)

    def on_evaluation(self, trainer: Trainer, record: Record) -> None:
        """Print the line."""
        val_loss, accuracy = record["val_loss"], record["val_accuracy"]
        # Of numbers the loss is the mean of squares; its root has their unit.
        last = f"{accuracy:8.4f}" if accuracy is not None else _loss(math.sqrt(val_loss))
        if self.empty:
            name = "val acc" if accuracy is not None else "val rmse"
            self._print(f"   step   epoch  train loss    val loss {name:>{len(last)}}        lr  seconds")
            self.empty = False
        self._print(
            f"{record['step']:7d} {record['epoch']:7.2f} {_loss(record['train_loss'])} {_loss(val_loss)} {last} "
            f"{record['lr']:9.3g} {record['seconds']:8.1f}"
        )

    def on_fit_end(self, trainer: Trainer) -> None:
        """Listen no more."""
        if self._watch is not None:
            self._watch.unregister("numba:compile", self._listener)
            self._watch = None

    def _print(self, line: str) -> None:
        if self.bar:
            importlib.import_module("tqdm").tqdm.write(line, file=sys.stdout)
        else:
            print(line)
        sys.stdout.flush()


def shown_metric(value: float, digits: int) -> str:
    """A metric as text; R2 of a single row is not a number."""
    if math.isnan(value):
        return "undefined (it needs two rows or more)"
    return f"{value:.{digits}f}" if abs(value) < 1e7 else f"{value:.{digits}e}"


def _listener(event: Any, say: Callable[[str], None]) -> Any:
    """Of numba's compiler, which tells it of what comes from no cache; says so once."""
    notes = [f"compiling kernels: once, they are kept in {kernel_cache()}"]

    def on_start(self: Any, started: Any) -> None:
        if notes:
            say(notes.pop())

    return type("Note", (event.Listener,), {"on_start": on_start, "on_end": lambda self, ended: None})()


def _loss(value: float) -> str:
    return f"{value:11.4f}" if value == 0 or 1e-3 <= abs(value) < 1e5 else f"{value:11.3e}"
