"""What ``fastmlp train`` prints: a table that grows by one line each evaluation."""

from __future__ import annotations

import importlib
import sys

from ..callbacks import Callback
from ..history import Record
from ..trainer import Trainer

__all__ = ["MetricsTable"]


class MetricsTable(Callback):
    """One line on standard output for each evaluation.

    Parameters
    ----------
    bar : bool
        Whether a progress bar is on the terminal, to be moved out of the way.
    """

    def __init__(self, bar: bool) -> None:
        self.bar = bar

    def on_fit_begin(self, trainer: Trainer) -> None:
        """Print the heading."""
        self._print("   step   epoch  train loss    val loss  val acc        lr  seconds")

    def on_evaluation(self, trainer: Trainer, record: Record) -> None:
        """Print the line."""
        val_loss, accuracy = record["val_loss"], record["val_accuracy"]
        self._print(
            f"{record['step']:7d} {record['epoch']:7.2f} {_loss(record['train_loss'])} "
            f"{_loss(val_loss) if val_loss is not None else '-':>11} "
            f"{f'{accuracy:.4f}' if accuracy is not None else '-':>8} "
            f"{record['lr']:9.3g} {record['seconds']:8.1f}"
        )

    def _print(self, line: str) -> None:
        if self.bar:
            importlib.import_module("tqdm").tqdm.write(line, file=sys.stdout)
        else:
            print(line)
        sys.stdout.flush()


def _loss(value: float) -> str:
    return f"{value:11.4f}" if value == 0 or 1e-3 <= abs(value) < 1e5 else f"{value:11.3e}"
