"""Console output of ``fastmlp train``: the table of metrics."""

from __future__ import annotations

import importlib
import math
import sys

from ..callbacks.base import Callback
from ..callbacks.history import Record
from ..training.trainer import Trainer

__all__ = ["MetricsTable", "format_metric"]


class MetricsTable(Callback):
    """Callback that prints a table with one line for each evaluation.

    Parameters
    ----------
    bar : bool
        Whether a progress bar is shown, so that lines must be printed above it.

    Attributes
    ----------
    empty : bool
        Whether no line has been printed yet.
    """

    def __init__(self, bar: bool) -> None:
        self.bar = bar
        self.empty = True

    def on_evaluation(self, trainer: Trainer, record: Record) -> None:
        """Print a line of metrics."""
        val_loss, accuracy = record["val_loss"], record["val_accuracy"]
        # The loss of a regression is the mean squared error; its root has the unit of the target.
        last = f"{accuracy:8.4f}" if accuracy is not None else _format_loss(math.sqrt(val_loss))
        if self.empty:
            name = "val acc" if accuracy is not None else "val rmse"
            self._print(f"   step   epoch  train loss    val loss {name:>{len(last)}}        lr  seconds")
            self.empty = False
        self._print(
            f"{record['step']:7d} {record['epoch']:7.2f} {_format_loss(record['train_loss'])} {_format_loss(val_loss)} "
            f"{last} {record['lr']:9.3g} {record['seconds']:8.1f}"
        )

    def _print(self, line: str) -> None:
        if self.bar:
            importlib.import_module("tqdm").tqdm.write(line, file=sys.stdout)
        else:
            print(line)
        sys.stdout.flush()


def format_metric(value: float, digits: int) -> str:
    """Format a metric; NaN is the R2 of a single row."""
    if math.isnan(value):
        return "undefined (it needs at least two rows)"
    return f"{value:.{digits}f}" if abs(value) < 1e7 else f"{value:.{digits}e}"


def _format_loss(value: float) -> str:
    return f"{value:11.4f}" if value == 0 or 1e-3 <= abs(value) < 1e5 else f"{value:11.3e}"
