"""Runs of a sweep as tasks of a Dask cluster."""

from __future__ import annotations

import asyncio
import queue
import uuid
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .. import __version__
from .._common.arithmetic import ceil_div
from .._common.errors import BackendError
from .dask_worker import PATIENCE, run_on_worker
from .sweep_runs import Event, Files, Run, check_files, describe

__all__ = ["DaskRuns"]


class DaskRuns:
    """Train the runs of a sweep on a Dask cluster; a context manager that cancels what is left.

    Parameters
    ----------
    client : distributed.Client
    data : dict
        Data of the runs by key, which are sent to each worker once.
    jobs : int, optional
        Number of runs at a time. Default: as many as the workers have threads.
    retries : int
        Number of times that a run is repeated after an error of its machine or the loss of its data. Dask's setting
        ``distributed.scheduler.allowed-failures`` counts the workers that may end during the run.
    """

    def __init__(self, client: Any, data: Mapping[str, Any], jobs: int | None = None, retries: int = 3) -> None:
        self._client, self._data, self._jobs, self._retries = client, data, jobs, retries
        self._address = client.scheduler.address
        self._id = f"fastmlp-{uuid.uuid4().hex[:12]}"
        self._sent: dict[str, Any] = {}
        self._futures: dict[Any, Run] = {}
        self._variables: dict[str, Any] = {}
        self._lost: dict[str, int] = {}
        self._messages: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def __enter__(self) -> DaskRuns:
        self._client.subscribe_topic(self._id, self._messages.put)
        return self

    def __exit__(self, *error: Any) -> None:
        if self._client.status != "running":
            return
        self._client.cancel(list(self._futures))
        self._futures.clear()
        self._client.unsubscribe_topic(self._id)
        for variable in self._variables.values():
            variable.delete()

    def run(self, runs: Sequence[Run], files: Mapping[str, Files]) -> Iterator[Event]:
        """Train runs from the files that exist of them, and yield what happens until the last one has ended."""
        waiting = deque(runs)
        workers = max(1, len(self._client.nthreads()))
        most = min(len(runs), self._jobs or len(runs))
        for _ in range(most):
            self._start(waiting.popleft(), files, ceil_div(most, workers))
        try:
            while self._futures:
                for event in self._events():
                    if event.ended and waiting:
                        self._start(waiting.popleft(), files, ceil_div(most, workers))
                    yield event
        except (OSError, asyncio.TimeoutError) as error:
            if self._client.status == "running":
                raise
            raise BackendError(
                f"The connection to the Dask scheduler at {self._address} was lost; what came back of the runs is kept."
            ) from error

    def _events(self) -> Iterator[Event]:
        """Wait for messages, and yield their events."""
        messages = [self._messages.get()]
        while not self._messages.empty():
            messages.append(self._messages.get())
        for place, message in enumerate(messages):
            if isinstance(message, tuple):  # an event of a worker: time, content
                name = message[1]["name"]
                later = any(isinstance(other, tuple) and other[1]["name"] == name for other in messages[place + 1 :])
                event = self._progress(message[1], with_files=not later)
            else:
                event = self._end(message)
            if event is not None:
                yield event

    def _start(self, run: Run, files: Mapping[str, Files], runs_per_worker: int) -> None:
        from distributed import Variable

        # A new one at each rung, as Dask may delete a variable after it was set anew.
        variable = self._variables[run.name] = Variable(client=self._client)
        variable.set(files.get(run.name, {}))
        self._submit(run, runs_per_worker)

    def _submit(self, run: Run, runs_per_worker: int) -> None:
        if run.data not in self._sent:
            # In a list, since Dask scatters the entries of a tuple or a dict one by one.
            (self._sent[run.data],) = self._client.scatter([self._data[run.data]], broadcast=True, hash=False)
        future = self._client.submit(
            run_on_worker,
            run,
            self._sent[run.data],
            self._variables[run.name].name,
            self._id,
            runs_per_worker,
            __version__,
            pure=False,
            retries=self._retries,
        )
        self._futures[future] = run
        future.add_done_callback(self._messages.put)
        self._per_worker = runs_per_worker

    def _progress(self, message: dict[str, Any], with_files: bool) -> Event | None:
        """Return the event of an evaluation; the files are the last ones, which later events of the run have too."""
        name = message["name"]
        if all(run.name != name for run in self._futures.values()):
            return None  # of a run that has ended since
        files = check_files(self._variables[name].get(PATIENCE)) if with_files else {}
        return Event(name, message["record"], message["end"], files)

    def _end(self, future: Any) -> Event | None:
        run = self._futures.pop(future, None)
        if run is None:
            return None
        if future.status in ("cancelled", "lost"):  # with the last worker that had the data
            self._lost[run.name] = self._lost.get(run.name, 0) + 1
            if self._lost[run.name] <= self._retries:
                if run.data in self._sent and self._sent[run.data].status != "finished":
                    del self._sent[run.data]  # to send them again, once for all runs that have lost them
                self._submit(run, self._per_worker)
                return None
            result: dict[str, Any] = {"error": f"its data were lost with the workers {self._lost[run.name]} times"}
        elif future.status == "error":
            result = {"error": _describe(future.exception())}
        else:
            result = future.result()
        files = check_files(result.get("files") or self._variables[run.name].get(PATIENCE))
        self._variables.pop(run.name).delete()
        return Event(run.name, None, int(result.get("end", 0)), files, ended=True, error=result.get("error"))


def _describe(error: BaseException) -> str:
    from distributed import KilledWorker

    if isinstance(error, KilledWorker):
        return (
            "the workers that trained it ended one after the other; see their logs, and Dask's setting "
            "distributed.scheduler.allowed-failures"
        )
    return describe(error)
