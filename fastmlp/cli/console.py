"""Console output of ``fastmlp train``: the table of metrics."""

from __future__ import annotations

import importlib
import math
import shutil
import sys
import threading

from ..callbacks.base import Callback
from ..callbacks.history import Record
from ..training.trainer import Trainer

__all__ = ["MetricsTable", "NetsTable", "format_metric"]


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


class NetsTable:
    """Table with a line for each net of an ensemble, printed when its fit has ended.

    Parameters
    ----------
    nets : int
    bar : bool
        Whether to draw a progress bar, above which the lines are printed.
    quiet : bool
        Whether to print nothing.

    Attributes
    ----------
    lock : threading.Lock
        Held while one of the nets, which are trained in several threads, prints.
    """

    def __init__(self, nets: int, *, bar: bool, quiet: bool) -> None:
        self.lock = threading.Lock()
        self._quiet, self._empty, self._bar = quiet, True, None
        if bar:
            self._bar = importlib.import_module("tqdm").tqdm(
                total=nets, file=sys.stderr, unit="net", leave=False, ncols=shutil.get_terminal_size().columns
            )

    def watch(self, number: int) -> Callback:
        """Return a callback for a net."""
        return _NetCallback(self, number)

    def close(self) -> None:
        """Remove the bar."""
        if self._bar is not None:
            self._bar.close()

    def show_epoch(self, number: int, record: Record) -> None:
        """Show the epoch of a net at the end of the bar."""
        if self._bar is not None:
            with self.lock:
                self._bar.set_postfix_str(f"net {number + 1}: epoch {record['epoch']:.0f}")

    def add(self, number: int, trainer: Trainer) -> None:
        """Print the line of a net whose fit has ended."""
        records = list(trainer.history)
        if not records:
            return
        last = records[-1]
        kept = next((one for one in records if one["step"] == trainer.restored), last)
        loss = "-" if kept["val_loss"] is None else _format_loss(kept["val_loss"]).strip()
        accuracy = "" if kept["val_accuracy"] is None else f"{kept['val_accuracy']:14.4f}"
        with self.lock:
            if self._empty and not self._quiet:
                title = "  held-out acc" if accuracy else ""
                self._print(f"    net  epochs  kept epoch  held-out loss{title}  seconds")
            self._empty = False
            if not self._quiet:
                self._print(
                    f"{number + 1:7d} {last['epoch']:7.0f} {kept['epoch']:11.0f} {loss:>14}{accuracy} "
                    f"{last['seconds']:8.1f}"
                )
            if self._bar is not None:
                self._bar.update()

    def _print(self, line: str) -> None:
        if self._bar is not None:
            importlib.import_module("tqdm").tqdm.write(line, file=sys.stdout)
        else:
            print(line)
        sys.stdout.flush()


class _NetCallback(Callback):
    may_change_model = looks_at_model = False

    def __init__(self, table: NetsTable, number: int) -> None:
        self._table, self._number = table, number

    def on_evaluation(self, trainer: Trainer, record: Record) -> None:
        """Show the epoch."""
        self._table.show_epoch(self._number, record)

    def on_fit_end(self, trainer: Trainer) -> None:
        """Print the line of the net."""
        self._table.add(self._number, trainer)


def format_metric(value: float, digits: int) -> str:
    """Format a metric; NaN is the R2 of a single row."""
    if math.isnan(value):
        return "undefined (it needs at least two rows)"
    return f"{value:.{digits}f}" if abs(value) < 1e7 else f"{value:.{digits}e}"


def _format_loss(value: float) -> str:
    return f"{value:11.4f}" if value == 0 or 1e-3 <= abs(value) < 1e5 else f"{value:11.3e}"
