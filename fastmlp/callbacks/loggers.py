"""Callbacks that log each evaluation: JSON lines, CSV, TensorBoard."""

from __future__ import annotations

import csv
import importlib
import io
import json
import os
from typing import TYPE_CHECKING, Any

from ..io.files import LineFile
from .base import Callback
from .history import KEYS, Record

if TYPE_CHECKING:
    from ..training.trainer import Trainer

__all__ = ["MetricsFile", "CSVFile", "TensorBoard"]


class MetricsFile(Callback):
    """Write each evaluation as a line of JSON, with null for values that do not apply.

    A line is written as a whole, directly after the evaluation.

    Parameters
    ----------
    path : path-like
        The file; an older one is overwritten when the fit begins.

    Examples
    --------
    >>> import json
    >>> import fastmlp as fm
    >>> X, y, X_test, y_test = fm.load("digits")
    >>> trainer = fm.Trainer(fm.MLP(64, [16], 10, rng=0), fm.CrossEntropyLoss(), fm.Adam())
    >>> history = trainer.fit(X, y, epochs=2, callbacks=[fm.MetricsFile("log.jsonl")], rng=0)
    >>> [json.loads(line)["epoch"] for line in open("log.jsonl")]
    [1.0, 2.0]
    """

    may_change_model = False
    _heading: str | None = None

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = path
        self._file: LineFile | None = None

    def _line(self, record: Record) -> str:
        return json.dumps(record, allow_nan=False)

    def on_fit_begin(self, trainer: Trainer) -> None:
        """Open the file, and write the records that a resumed fit has already."""
        self._file = LineFile(self.path)
        if self._heading is not None:
            self._file.write(self._heading)
        for record in trainer.history:
            self.on_evaluation(trainer, record)

    def on_evaluation(self, trainer: Trainer, record: Record) -> None:
        """Append the record to the file."""
        if self._file is not None:
            self._file.write(self._line(record))

    def on_fit_end(self, trainer: Trainer) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()


class CSVFile(MetricsFile):
    """Write each evaluation as a row of a CSV file with a header; values that do not apply are empty.

    Parameters
    ----------
    path : path-like
        The file; an older one is overwritten when the fit begins.

    Examples
    --------
    >>> import fastmlp as fm
    >>> X, y, X_test, y_test = fm.load("digits")
    >>> trainer = fm.Trainer(fm.MLP(64, [16], 10, rng=0), fm.CrossEntropyLoss(), fm.Adam())
    >>> history = trainer.fit(X, y, epochs=2, callbacks=[fm.CSVFile("log.csv")], rng=0)
    >>> len(open("log.csv").readlines())
    3
    """

    _heading = ",".join(KEYS)

    def _line(self, record: Record) -> str:
        line = io.StringIO()
        csv.writer(line, lineterminator="").writerow(["" if value is None else value for value in record.values()])
        return line.getvalue()


class TensorBoard(Callback):
    """Write each evaluation as TensorBoard scalars; needs tensorboardX (``pip install "fastmlp[tensorboard]"``).

    Parameters
    ----------
    folder : path-like
        Folder of the event files. The tags are the keys of a record.

    Raises
    ------
    ImportError
        If tensorboardX is not installed.

    Examples
    --------
    >>> import os
    >>> import fastmlp as fm
    >>> X, y, X_test, y_test = fm.load("digits")
    >>> trainer = fm.Trainer(fm.MLP(64, [16], 10, rng=0), fm.CrossEntropyLoss(), fm.Adam())
    >>> history = trainer.fit(X, y, epochs=2, callbacks=[fm.TensorBoard("events")], rng=0)
    >>> len(os.listdir("events"))
    1
    """

    may_change_model = False

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        try:
            self._module = importlib.import_module("tensorboardX")
        except ImportError as error:
            raise ImportError(
                'TensorBoard needs tensorboardX, which is not installed: pip install "fastmlp[tensorboard]".'
            ) from error
        self.folder = folder
        self._writer: Any = None

    def on_fit_begin(self, trainer: Trainer) -> None:
        """Open an event file."""
        self._writer = self._module.SummaryWriter(os.fspath(self.folder))

    def on_evaluation(self, trainer: Trainer, record: Record) -> None:
        """Write the record as scalars."""
        for key, value in record.items():
            if key != "step" and value is not None:
                self._writer.add_scalar(key, value, record["step"])
        self._writer.flush()

    def on_fit_end(self, trainer: Trainer) -> None:
        """Close the event file."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None
