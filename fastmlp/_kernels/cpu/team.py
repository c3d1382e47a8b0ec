"""Teams of Python threads that execute one kernel together."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from ..._common.interrupts import deferred_interrupts
from ..._common.thread_pool import POOL, Member
from .barrier import ABORT

__all__ = ["Team"]


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


def _together(members: list[Member], job: Callable[[int], Any], control: Any) -> Any:
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
