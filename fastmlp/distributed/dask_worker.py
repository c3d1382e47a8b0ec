"""A run of a sweep as a task of a Dask worker."""

from __future__ import annotations

import asyncio
import contextvars
from typing import Any

from .. import __version__
from .._common.threads import assign_threads
from ..callbacks.history import Record
from .sweep_runs import Cancelled, Files, Run, check_files, train_run

__all__ = ["PATIENCE", "run_on_worker"]

PATIENCE = 60  # seconds to wait for the files of a run from the scheduler


class _WorkerLink:
    """Link of a task on a Dask worker.

    The scheduler keeps the last files of the run in a `distributed.Variable`, so that the task goes on from them when
    it is repeated on another worker. The progress are events, which the sweep subscribes to.
    """

    def __init__(self, name: str, variable: str, topic: str) -> None:
        from distributed import Variable, get_worker

        self._name, self._topic = name, topic
        self._variable = Variable(variable)
        self._worker = get_worker()
        self._key = self._worker.get_current_task()

    def files(self) -> Files:
        for _ in range(PATIENCE):
            if self.is_cancelled():  # the sweep may have deleted the variable
                raise Cancelled
            try:
                return check_files(self._variable.get(1))
            except (TimeoutError, asyncio.TimeoutError):  # two types in Python 3.10
                continue
        raise TimeoutError(f"The scheduler did not send the files of {self._name} within {PATIENCE} s.")

    def report(self, record: Record | None, end: int, files: Files) -> None:
        self._variable.set(files)
        self._worker.log_event(self._topic, {"name": self._name, "record": record, "end": end})

    def is_cancelled(self) -> bool:
        # Dask does not interrupt the thread of a task that it cancels, also as the sweep's process has ended.
        task = self._worker.state.tasks.get(self._key)
        return task is None or task.state not in ("executing", "long-running")


def run_on_worker(run: Run, data: Any, variable: str, topic: str, runs_per_worker: int, version: str) -> dict[str, Any]:
    """Train a run in a task of a Dask worker, see `train_run`.

    Parameters
    ----------
    run, data
        See `train_run`.
    variable : str
        Name of the `distributed.Variable` with the files of the run.
    topic : str
        Topic of the events of the sweep.
    runs_per_worker : int
        Number of runs among which a worker's threads are divided; at most one per thread are trained at a time.
    version : str
        Version of the process that makes the sweep.
    """
    from distributed import get_worker

    worker = get_worker()
    if version != __version__:
        error = f"The worker {worker.address} has fastmlp {__version__}; expected {version}, as in this process."
        return {"files": {}, "end": 0, "error": error}
    threads = worker.state.nthreads  # OMP_NUM_THREADS is 1, which the nanny of a worker sets
    share = max(1, threads // max(1, min(threads, runs_per_worker)))

    def train() -> dict[str, Any]:
        assign_threads(share, f"threads of the Dask worker for this run, of {threads}")
        return train_run(run, data, _WorkerLink(run.name, variable, topic), worker.local_directory)

    return contextvars.copy_context().run(train)
