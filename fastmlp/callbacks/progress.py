"""Progress bar of a fit."""

from __future__ import annotations

import importlib
import shutil
import sys
from typing import TYPE_CHECKING, Any, TextIO

from .base import Callback
from .history import Record

if TYPE_CHECKING:
    from ..training.trainer import Trainer

__all__ = ["ProgressBar"]


class ProgressBar(Callback):
    """Print a line for each evaluation and, on a terminal, draw a progress bar over the steps.

    A heading has the order of the rows if they are shuffled within windows only.

    Parameters
    ----------
    stream : text stream, optional
        Output stream. Default: ``sys.stderr`` at the beginning of the fit.
    lines : bool
        Whether to print the heading, and a line for each evaluation.

    Examples
    --------
    >>> import sys
    >>> import fastmlp as fm
    >>> X, y, X_test, y_test = fm.load("digits")
    >>> trainer = fm.Trainer(fm.MLP(64, [16], 10, rng=0), fm.CrossEntropyLoss(), fm.Adam())
    >>> history = trainer.fit(X, y, epochs=2, callbacks=[fm.ProgressBar(sys.stderr)], rng=0)
    """

    may_change_model = looks_at_model = False

    def __init__(self, stream: TextIO | None = None, *, lines: bool = True) -> None:
        self.stream, self.lines = stream, bool(lines)
        self._out: TextIO | None = None
        self._bar: Any = None
        self._first = 0

    def on_fit_begin(self, trainer: Trainer) -> None:
        """Print the heading, and draw the bar if the stream is a terminal."""
        self._out = self.stream or sys.stderr
        if self.lines and trainer.order is not None and trainer.order.kind == "windows":
            self._write(f"order of the rows: {trainer.order}")
        if self._out is None or not getattr(self._out, "isatty", bool)():  # sys.stderr is None without a console
            return
        self._first = trainer.end - trainer.planned_steps
        # import_module, since tqdm has no type hints.
        self._bar = importlib.import_module("tqdm").tqdm(
            total=trainer.planned_steps,
            initial=trainer.steps - self._first,
            file=self._out,
            unit="step",
            leave=False,
            # tqdm draws nothing on a terminal that reports 0 columns, as in some containers.
            ncols=shutil.get_terminal_size().columns,
        )

    def on_progress(self, trainer: Trainer) -> None:
        """Advance the bar."""
        if self._bar is not None:
            self._bar.update(trainer.steps - self._first - self._bar.n)

    def on_evaluation(self, trainer: Trainer, record: Record) -> None:
        """Print the line of the record, and show loss and learning rate at the end of the bar."""
        if self._bar is not None:
            self._bar.set_postfix_str(", ".join([*_measures(record)[:2], f"lr {record['lr']:.3g}"]), refresh=False)
        if not self.lines:
            return
        epoch = f"{record['epoch']:.2f}".rstrip("0").rstrip(".")
        parts = [f"{record['step']}/{trainer.end}", f"epoch {epoch}", *_measures(record), f"lr {record['lr']:.3g}"]
        self._write("  ".join([*parts, f"{record['seconds']:.1f} s"]))

    def _write(self, line: str) -> None:
        if self._bar is not None:
            self._bar.write(line, file=self._out)
        elif self._out is not None:
            self._out.write(line + "\n")
            self._out.flush()

    def on_fit_end(self, trainer: Trainer) -> None:
        """Remove the bar."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def _measures(record: Record) -> list[str]:
    names = {"loss": "train_loss", "val_loss": "val_loss", "val_acc": "val_accuracy"}
    return [f"{name} {record[key]:.4g}" for name, key in names.items() if record[key] is not None]
