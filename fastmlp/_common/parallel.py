"""Independent functions that run at once on threads of the pool."""

from __future__ import annotations

import contextvars
import functools
import threading
from collections.abc import Callable, Sequence
from typing import Any

from .interrupts import Interruption
from .thread_pool import POOL
from .threads import limit_threads

__all__ = ["run_jobs"]

_LOOK = 0.1  # seconds between two looks for Ctrl-C on systems where it does not end the wait for a lock


def run_jobs(jobs: Sequence[Callable[[], Any]], threads: int, at_once: int | None = None) -> list[Any]:
    """Call functions at once, and return their results in order.

    The calling thread and others of the pool take the functions one after the other. Each has an equal share of the
    threads, `limit_threads`, and a copy of the context.

    Parameters
    ----------
    jobs : sequence of callable
        Without arguments.
    threads : int
        Threads of all functions together.
    at_once : int, optional
        Functions at a time; default: as many as threads.

    Returns
    -------
    list
        Results of the functions, in their order; an `Exception` that a function raises is its result.

    Raises
    ------
    KeyboardInterrupt
        After Ctrl-C, when the functions have ended, see `Interruption`; the rest of them is not called. A second Ctrl-C
        does not wait for the other threads. Exceptions such as SystemExit in any thread are raised likewise.

    Examples
    --------
    >>> run_jobs([lambda: 1, lambda: 2], threads=2)
    [1, 2]
    """
    run = _Run(jobs)
    workers = max(1, min(threads if at_once is None else at_once, len(jobs)))
    share = max(1, threads // workers)
    helpers = 0
    try:
        for _ in range(workers - 1):
            POOL.start(functools.partial(contextvars.copy_context().run, run.help, share))
            helpers += 1
        contextvars.copy_context().run(run.work, share)
    except BaseException as error:
        run.end(error)
    for _ in range(helpers):
        try:
            run.wait()
        except BaseException as error:
            if run.raised:
                raise
            run.end(error)
            run.wait()
    if run.raised:
        raise run.raised[0]
    return run.results


class _Run:
    """Functions, the next one to call, and the results."""

    def __init__(self, jobs: Sequence[Callable[[], Any]]) -> None:
        self.results: list[Any] = [None] * len(jobs)
        self.raised: list[BaseException] = []  # exceptions that end the run
        self._jobs, self._next, self._lock = jobs, 0, threading.Lock()
        self._interruption = Interruption()
        self._ended = threading.Semaphore(0)

    def work(self, share: int) -> None:
        """Call functions until none is left or the run ends."""
        limit_threads(share)
        self._interruption.listen()
        while not self._interruption.is_requested():
            with self._lock:
                number, self._next = self._next, self._next + 1
            if number >= len(self._jobs):
                return
            try:
                self.results[number] = self._jobs[number]()
            except Exception as error:
                self.results[number] = error

    def help(self, share: int) -> None:
        """Call `work` in another thread, which must not raise."""
        try:
            self.work(share)
        except BaseException as error:
            self.end(error)
        finally:
            self._ended.release()

    def end(self, error: BaseException) -> None:
        """Call no further function, and end those that run at their next look for Ctrl-C."""
        self.raised.append(error)  # first, as the others raise KeyboardInterrupt then
        self._interruption.request()

    def wait(self) -> None:
        """Wait for the end of one of the other threads."""
        while not self._ended.acquire(timeout=_LOOK):
            pass
