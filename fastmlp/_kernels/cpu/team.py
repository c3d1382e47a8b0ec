"""Team of Python threads that execute one kernel together."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable
from typing import Any

from ..._common.interrupts import deferred_interrupts
from .engine import ABORT

__all__ = ["Team"]


class _Member:
    """Worker thread that waits for jobs, ends with its team and never keeps the interpreter alive."""

    def __init__(self, number: int) -> None:
        self.number = number
        self._start, self._done = threading.Lock(), threading.Lock()
        self._start.acquire()
        self._done.acquire()
        self._job: Callable[[int], Any] | None = None
        self._busy = False
        self.error: BaseException | None = None
        self.thread = threading.Thread(target=self._run, name=f"fastmlp-{number}", daemon=True)
        self.thread.start()

    def _run(self) -> None:
        while True:
            self._start.acquire()
            job = self._job
            if job is None:
                return
            try:
                job(self.number)
            except BaseException as error:  # `Team` raises the error in the caller
                self.error = error
            self._job = job = None
            self._busy = False
            # An interrupted `wait` may have left the lock released; `wait` then relies on `_busy`.
            if self._done.locked():
                self._done.release()

    def begin(self, job: Callable[[int], Any]) -> None:
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


def _end(members: list[_Member], process: int) -> None:
    if os.getpid() == process:  # a forked child does not have the threads
        for member in members:
            member.end()
        for member in members:
            member.thread.join()


class Team:
    """Team of ``size`` threads, the first of which is the caller.

    The other threads wait between runs. They end with `close` or when the team is garbage-collected. A forked child has
    only the calling thread, so it starts the others anew.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._members: list[_Member] = []
        self._close: Callable[[], Any] = lambda: None
        self._process: int | None = None

    def run(self, job: Callable[[int], Any], control: Any) -> Any:
        """Call ``job(thread)`` in all threads at once and return the result of the caller's own call.

        An exception in any thread releases the others from their barriers through ``control`` and is raised here.
        """
        if self.size == 1:
            return job(0)
        # All threads must be done before the caller may touch the arrays, so defer interrupts.
        with deferred_interrupts():
            if self._process != os.getpid():
                self._start()
            return self._together(job, control)

    def _start(self) -> None:
        self._members = []
        self._process = os.getpid()
        self._close = weakref.finalize(self, _end, self._members, self._process)
        try:
            for number in range(1, self.size):
                self._members.append(_Member(number))
        except BaseException:
            self.close()
            raise

    def _together(self, job: Callable[[int], Any], control: Any) -> Any:
        def guarded(thread: int) -> Any:
            try:
                return job(thread)
            except BaseException:
                control[ABORT] = 1
                raise

        for member in self._members:
            member.begin(guarded)
        raised: BaseException | None = None
        result = None
        try:
            result = guarded(0)
        except BaseException as error:
            raised = error
        for member in self._members:
            try:
                member.wait()
            except BaseException as error:  # other threads still use the arrays: wait for all
                raised = raised or error
        if raised is not None:
            raise raised
        for member in self._members:
            if member.error is not None:
                raise member.error
        return result

    def close(self) -> None:
        """End the threads."""
        self._close()
        self._members, self._process, self._close = [], None, lambda: None
