"""Runs of a sweep in threads of this process."""

from __future__ import annotations

import contextvars
import queue
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from .._common.threads import limit_threads, usable_threads
from ..callbacks.history import Record
from .sweep_runs import Cancelled, Event, Files, Run, describe, train_run

__all__ = ["LocalRuns"]


class LocalRuns:
    """Train the runs of a sweep in threads of this process, see `DaskRuns`.

    Parameters
    ----------
    data : dict
        Data of the runs by key.
    jobs : int, optional
        Number of runs at a time. Default: one per usable processor.

    Attributes
    ----------
    jobs : int
        Number of runs at a time.
    """

    def __init__(self, data: Mapping[str, Any], jobs: int | None = None) -> None:
        self._data = data
        self._usable = usable_threads().count
        self.jobs = jobs or self._usable
        self._cancelled = threading.Event()
        self._events: queue.SimpleQueue[Event | Future[dict[str, Any]]] = queue.SimpleQueue()
        self._pool = ThreadPoolExecutor(self.jobs, "fastmlp-sweep")

    def __enter__(self) -> LocalRuns:
        return self

    def __exit__(self, *error: Any) -> None:
        self._cancelled.set()
        self._pool.shutdown(cancel_futures=True)

    def run(self, runs: Sequence[Run], files: Mapping[str, Files]) -> Iterator[Event]:
        """Train runs from the files that exist of them, and yield what happens until the last one has ended."""
        share = max(1, self._usable // max(1, min(self.jobs, len(runs))))
        names: dict[Future[dict[str, Any]], str] = {}
        for run in runs:
            context = contextvars.copy_context()
            context.run(limit_threads, share)
            link = _ThreadLink(run.name, files.get(run.name, {}), self._events, self._cancelled)
            future = self._pool.submit(context.run, train_run, run, self._data[run.data], link)
            names[future] = run.name
            future.add_done_callback(self._events.put)
        while names:
            event = self._events.get()
            if isinstance(event, Future):
                name, error = names.pop(event), event.exception()
                if error is None:
                    result = event.result()
                    event = Event(name, None, result["end"], result["files"], ended=True, error=result["error"])
                else:
                    event = Event(name, None, 0, {}, ended=True, error=describe(error))
            yield event


class _ThreadLink:
    """Link of a run in a thread of this process."""

    def __init__(self, name: str, files: Files, events: queue.SimpleQueue[Any], cancelled: threading.Event) -> None:
        self._name, self._files, self._events, self._cancelled = name, files, events, cancelled

    def files(self) -> Files:
        if self._cancelled.is_set():
            raise Cancelled
        return self._files

    def report(self, record: Record | None, end: int, files: Files) -> None:
        self._events.put(Event(self._name, record, end, files))

    def is_cancelled(self) -> bool:
        return self._cancelled.is_set()
