"""Pool of waiting threads, from which runs and predictions of any model in the process take theirs."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any

__all__ = ["POOL", "Member", "Pool"]

_PROCESSORS = os.cpu_count() or 1  # asked once, since the system reads a file for each answer


class Member:
    """Thread that waits for jobs and never keeps the interpreter alive."""

    def __init__(self, name: str) -> None:
        self._start, self._done = threading.Lock(), threading.Lock()
        self._start.acquire()
        self._done.acquire()
        self._job: Callable[[], Any] | None = None
        self._busy = False
        self._after: Callable[[Member], None] | None = None
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
            if self._after is not None:
                after, self._after = self._after, None
                after(self)
                continue
            # An interrupted `wait` may have left the lock released; `wait` then relies on `_busy`.
            if self._done.locked():
                self._done.release()

    def begin(self, job: Callable[[], Any], after: Callable[[Member], None] | None = None) -> None:
        """Begin a job, which `wait` waits for, or after which the thread itself calls ``after`` if that is given."""
        self._job, self.error, self._busy, self._after = job, None, True, after
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
        if threading.current_thread() is not self.thread:
            self.thread.join()


class Pool:
    """Waiting threads of the process, which runs of any model take and give back.

    A run that finds no waiting thread starts one instead of waiting for another run's. So there are as many threads as
    were needed at once, of which at most one for each processor waits, or as many as the largest run took.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: list[Member] = []
        self._started = self._largest = 0

    def take(self, count: int) -> list[Member]:
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
        started: list[Member] = []
        try:
            for number in numbers:
                started.append(Member(f"fastmlp-{number}"))
        except BaseException:
            for member in started:
                member.end()
            self.give_back(found)
            raise
        return found + started

    def start(self, job: Callable[[], Any]) -> None:
        """Begin a job that nothing waits for and that raises no exception.

        Raises
        ------
        RuntimeError
            If the system starts no further thread.
        """
        self.take(1)[0].begin(job, self._return)

    def _return(self, member: Member) -> None:
        self.give_back([member])

    def give_back(self, members: list[Member]) -> None:
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
