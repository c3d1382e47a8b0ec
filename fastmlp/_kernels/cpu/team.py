"""Teams of Python threads that execute one kernel together, and the pool from which they take their threads."""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable
from typing import Any

from ..._common.interrupts import deferred_interrupts
from .engine import ABORT

__all__ = ["POOL", "Pool", "Team"]


_PROCESSORS = os.cpu_count() or 1  # asked once, since the system reads a file for each answer


class _Member:
    """Thread that waits for jobs and never keeps the interpreter alive."""

    def __init__(self, name: str) -> None:
        self._start, self._done = threading.Lock(), threading.Lock()
        self._start.acquire()
        self._done.acquire()
        self._job: Callable[[], Any] | None = None
        self._busy = False
        self.error: BaseException | None = None
        self.thread = threading.Thread(target=self._run, name=name, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        while True:
            self._start.acquire()
            job = self._job
            if job is None:
                return
            try:
                job()
            except BaseException as error:  # `Team` raises the error in the caller
                self.error = error
            self._job = job = None
            self._busy = False
            # An interrupted `wait` may have left the lock released; `wait` then relies on `_busy`.
            if self._done.locked():
                self._done.release()

    def begin(self, job: Callable[[], Any]) -> None:
        self._job, self.error, self._busy = job, None, True
        self._start.release()

    def wait(self) -> None:
        """Wait until the job is done; then raise an exception that a signal handler raised meanwhile."""
        raised: BaseException | None = None
        while self._busy:
            try:
                self._done.acquire()
            except BaseException as error:
                raised = raised or error
        if raised is not None:
            raise raised

    def end(self) -> None:
        self._job = None
        self._start.release()
        self.thread.join()


class Pool:
    """Waiting threads of the process, which runs of any model take and give back.

    A run that finds no waiting thread starts one instead of waiting for another run's. So there are as many threads as
    were needed at once, of which at most one for each processor waits, or as many as the largest run took.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: list[_Member] = []
        self._started = self._largest = 0

    def take(self, count: int) -> list[_Member]:
        """Return ``count`` threads, and start those that are missing.

        Raises
        ------
        RuntimeError
            If the system starts no further thread; those that were started are ended.
        """
        with self._lock:
            self._largest = max(self._largest, count)
            first = max(0, len(self._waiting) - count)
            self._waiting, found = self._waiting[:first], self._waiting[first:]
            numbers = range(self._started + 1, self._started + 1 + count - len(found))
            self._started += len(numbers)
        started: list[_Member] = []
        try:
            for number in numbers:
                started.append(_Member(f"fastmlp-{number}"))
        except BaseException:
            for member in started:
                member.end()
            self.give_back(found)
            raise
        return found + started

    def give_back(self, members: list[_Member]) -> None:
        """Let threads wait for the next run; end those that are too many."""
        with self._lock:
            self._waiting += members
            most = max(self._largest, _PROCESSORS)
            self._waiting, extra = self._waiting[:most], self._waiting[most:]
        for member in extra:
            member.end()

    def end(self) -> None:
        """End the waiting threads; later runs start others."""
        with self._lock:
            members, self._waiting = self._waiting, []
        for member in members:
            member.end()

    def forget(self) -> None:
        """Begin anew, after a fork: the child has neither the threads nor a possible owner of the lock."""
        self._lock, self._waiting, self._started, self._largest = threading.Lock(), [], 0, 0


POOL = Pool()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=POOL.forget)


class Team:
    """Team of ``size`` threads, the first of which is the caller; the others are those of the pool during a run."""

    def __init__(self, size: int) -> None:
        self.size = size

    def run(self, job: Callable[[int], Any], control: Any) -> Any:
        """Call ``job(thread)`` in all threads at once and return the result of the caller's own call.

        An exception in any thread releases the others from their barriers through ``control`` and is raised here.
        """
        if self.size == 1:
            return job(0)
        # All threads must be done before the caller may touch the arrays, so defer interrupts.
        with deferred_interrupts():
            members = POOL.take(self.size - 1)
            try:
                return _together(members, job, control)
            finally:
                POOL.give_back(members)


def _together(members: list[_Member], job: Callable[[int], Any], control: Any) -> Any:
    def guarded(thread: int) -> Any:
        try:
            return job(thread)
        except BaseException:
            control[ABORT] = 1
            raise

    for number, member in enumerate(members, 1):
        member.begin(functools.partial(guarded, number))
    raised: BaseException | None = None
    result = None
    try:
        result = guarded(0)
    except BaseException as error:
        raised = error
    for member in members:
        try:
            member.wait()
        except BaseException as error:  # other threads still use the arrays: wait for all
            raised = raised or error
    # An error holds the frames of its thread, which would keep the arrays alive in a waiting thread.
    errors = [member.error for member in members if member.error is not None]
    for member in members:
        member.error = None
    if raised is not None:
        raise raised
    if errors:
        raise errors[0]
    return result
