"""A run of a sweep where it is trained, and what is told of it.

A run goes from one process to another as the files of its run folder. They are written by `fastmlp.io` as arrays and
JSON, and read by it with its checks, so nothing that comes back from a worker is unpickled by this package.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from .._common.errors import BackendError
from ..callbacks.base import Callback
from ..callbacks.history import Record
from ..io.training_state import STATE

if TYPE_CHECKING:
    from ..training.trainer import Trainer

__all__ = ["Cancelled", "Event", "Files", "Link", "Run", "check_files", "describe", "read_files", "train_run"]

Files = dict[str, bytes]  # the files of a run folder by name

_FILE_NAME = re.compile(r"[a-z]+\.[a-z]+")


@dataclass(frozen=True)
class Run:
    """A run of a sweep.

    Attributes
    ----------
    name : str
        Name of the run, unique in the sweep.
    train : callable
        Called as ``train(folder, payload, data, callbacks)``; trains in ``folder``, or continues the state in it.
    payload : Any
        Options of the run.
    data : str
        Key of its data.
    divisor : int
        The run stops at the first evaluation after 1 / ``divisor`` of its steps; it can go on from its state.
    """

    name: str
    train: Callable[[Path, Any, Any, list[Callback]], None]
    payload: Any
    data: str
    divisor: int = 1


@dataclass(frozen=True)
class Event:
    """Something that happened to a run.

    Attributes
    ----------
    name : str
        Name of the run.
    record : dict or None
        Record of an evaluation.
    end : int
        Number of the run's last step.
    files : dict of str to bytes
        Files of the run; none if a later event has them.
    ended : bool
        Whether the run has ended, also by an error.
    error : str or None
        Reason why it failed.
    stopped : bool
        Whether successive halving ended it before its last step.
    """

    name: str
    record: Record | None
    end: int
    files: Files
    ended: bool = False
    error: str | None = None
    stopped: bool = False


class Link(Protocol):
    """Connection of a running run to the sweep."""

    def files(self) -> Files:
        """Return the last files of the run."""

    def report(self, record: Record | None, end: int, files: Files) -> None:
        """Send the files, after an evaluation with its record; ``end`` is the number of the last step."""

    def is_cancelled(self) -> bool:
        """Return whether the run is to end."""


class Cancelled(Exception):
    """The sweep does not need the run any more."""


class _Reporter(Callback):
    """Send the files of a run at each evaluation, and whenever its state was saved."""

    may_change_model = looks_at_model = False

    def __init__(self, link: Link, folder: Path) -> None:
        self.end = 0
        self._link, self._folder = link, folder
        self._sent: int | None = None

    def on_fit_begin(self, trainer: Trainer) -> None:
        self.end, self._sent = trainer.end, self._saved_at()

    def on_progress(self, trainer: Trainer) -> None:
        if self._link.is_cancelled():
            raise Cancelled
        if self._saved_at() != self._sent:
            self._send(None)

    def on_evaluation(self, trainer: Trainer, record: Record) -> None:
        if self._link.is_cancelled():
            raise Cancelled
        self._send(record)

    def _saved_at(self) -> int:
        return (self._folder / STATE).stat().st_mtime_ns

    def _send(self, record: Record | None) -> None:
        self._sent = self._saved_at()
        self._link.report(record, self.end, read_files(self._folder))


class _StopAfterPart(Callback):
    """Stop a run at the first evaluation after 1 / ``divisor`` of its steps, when its state is saved."""

    may_change_model = looks_at_model = False

    def __init__(self, divisor: int) -> None:
        self._divisor = divisor

    def on_fit_begin(self, trainer: Trainer) -> None:
        if trainer.steps * self._divisor >= trainer.end:
            trainer.stop()

    def on_evaluation(self, trainer: Trainer, record: Record) -> None:
        self.on_fit_begin(trainer)


def train_run(run: Run, data: Any, link: Link, parent: str | None = None) -> dict[str, Any]:
    """Train a run in a temporary folder, from the files that the sweep has of it.

    Parameters
    ----------
    run : Run
    data : Any
        Its data.
    link : Link
    parent : str, optional
        Folder for the temporary one.

    Returns
    -------
    dict
        ``files`` of the run; ``end``, the number of its last step; ``error``, None or the reason why it failed.

    Raises
    ------
    OSError, MemoryError
        If the machine lacks something, so that the run may succeed elsewhere or later. Other errors would come again.
    Cancelled
        If the sweep does not need the run any more.
    """
    with tempfile.TemporaryDirectory(prefix="fastmlp-", dir=parent) as temporary:
        folder = Path(temporary)
        for name, content in link.files().items():
            (folder / name).write_bytes(content)
        reporter = _Reporter(link, folder)
        callbacks: list[Callback] = [reporter]
        if run.divisor > 1:
            callbacks.append(_StopAfterPart(run.divisor))
        error = None
        try:
            run.train(folder, run.payload, data, callbacks)
        except (OSError, MemoryError, Cancelled):
            raise
        except Exception as problem:
            error = describe(problem)
        return {"files": read_files(folder), "end": reporter.end, "error": error}


def describe(error: BaseException) -> str:
    """Return the message of an error in one line."""
    text = " ".join(str(error).split())
    known = isinstance(error, (ValueError, ArithmeticError, BackendError))
    return text if known and text else f"{type(error).__name__}: {text}".rstrip(": ")


def check_files(files: Any) -> Files:
    """Return files that came from a worker.

    Raises
    ------
    ValueError
        If they are not bytes by names of files without a folder.
    """
    if not isinstance(files, Mapping) or not all(
        isinstance(name, str) and _FILE_NAME.fullmatch(name) and isinstance(content, bytes)
        for name, content in files.items()
    ):
        raise ValueError(f"A worker sent {str(files)[:40]!r}; expected the files of a run.")
    return dict(files)


def read_files(folder: Path) -> Files:
    """Return the files of a run folder."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if _FILE_NAME.fullmatch(path.name)}
