"""Number of threads of a run.

Nothing is cached, since affinity, quota and environment may change between two calls. A call reads a few small files:
call once before a loop.
"""

from __future__ import annotations

import contextvars
import os
from dataclasses import dataclass

from .cgroups import ControlGroup, control_groups
from .errors import BackendError
from .tuning import tuned
from .validation import as_integer

__all__ = [
    "Limit",
    "assign_threads",
    "choose_threads",
    "limit_threads",
    "most_threads",
    "thread_limit",
    "usable_threads",
]

_limit: contextvars.ContextVar[int | None] = contextvars.ContextVar("fastmlp_threads", default=None)
_assigned: contextvars.ContextVar[tuple[int, str] | None] = contextvars.ContextVar("fastmlp_assigned", default=None)


@dataclass(frozen=True)
class Limit:
    """Number of threads with the reason for it.

    Attributes
    ----------
    count : int
        At least 1.
    reason : str
        Explanation for messages; does not repeat the number.
    """

    count: int
    reason: str

    def __str__(self) -> str:
        return f"{self.count}: {self.reason}"


def usable_threads() -> Limit:
    """Return the number of threads that can run at once in this process.

    The number is the minimum of the processors, the processor affinity, the quota of the control groups (rounded down),
    FASTMLP_NUM_THREADS, or OMP_NUM_THREADS if the former is not set, `assign_threads` and `limit_threads`.

    Returns
    -------
    Limit

    Raises
    ------
    BackendError
        If FASTMLP_NUM_THREADS is not a positive integer. An invalid OMP_NUM_THREADS is ignored, since the variable is
        shared with other programs.

    Examples
    --------
    >>> usable_threads().count >= 1
    True
    """
    asked = _environment()
    there = os.cpu_count() or 1
    bounds = [(there, "all there are"), (_affinity() or there, f"affinity, of {there}")]
    quota = _quota() if bounds[1][0] > 1 else None
    if quota is not None:
        bounds.append((max(1, int(quota)), f"cgroup quota of {quota:g}"))
    if asked is not None:
        bounds.append(asked)
    limit = _limit.get()
    if limit is not None:
        bounds.append((limit, "share of one of several models"))
    count, why = min(bounds, key=lambda bound: bound[0])  # the first of several minima
    return Limit(count, f"{count} processor{'' if count == 1 else 's'} usable ({why})")


def limit_threads(count: int) -> None:
    """Let `usable_threads` return at most ``count`` in the current context, such as a thread among several."""
    _limit.set(count)


def assign_threads(count: int, reason: str) -> None:
    """Let `usable_threads` return at most ``count`` in the current context, whatever OMP_NUM_THREADS is.

    For the task of a scheduler that sets OMP_NUM_THREADS=1 for all its workers and tells the number of threads of
    each one in another way. FASTMLP_NUM_THREADS still counts.
    """
    _assigned.set((count, reason))


def thread_limit() -> int | None:
    """Return the number set by `limit_threads` in the current context, or None."""
    return _limit.get()


def choose_threads(requested: int | None, work: float, rows: int) -> Limit:
    """Choose the number of threads of a run.

    Parameters
    ----------
    requested : int or None
        The user's choice, which is used whatever the number of processors.
    work : float
        Floating-point operations of a step. If ``requested`` is None, there are as many threads as have
        the choice ``flops_per_thread`` (see `tuning`) each, at most `usable_threads`.
    rows : int
        Rows of a step. If ``requested`` is None, more than two threads have the choice ``rows_per_thread`` each.

    Returns
    -------
    Limit

    Raises
    ------
    ValueError
        If ``requested`` is not a positive integer.
    BackendError
        As `usable_threads` and `tuned`.

    Examples
    --------
    >>> choose_threads(None, 1e6, rows=32).count
    1
    """
    if requested is not None:
        count = as_integer(requested, "threads")
        return Limit(count, f"threads={count} was asked for")
    _environment()  # report an invalid FASTMLP_NUM_THREADS even where the work allows one thread only
    least = tuned("flops_per_thread")
    step, share = f"a step has {_mega(work)} Mflop", _mega(least)
    if work < 2 * least:
        return Limit(1, f"{step}, less than {share} for each of two threads")
    usable, most = usable_threads(), most_threads(work, rows)
    if min(usable.count, work // least) > most:
        fewest = tuned("rows_per_thread")
        return Limit(most, f"a step has {rows} rows, at least {fewest} for each of more than two threads")
    return Limit(min(usable.count, most), f"{step}, at least {share} for each thread; {usable.reason}")


def most_threads(work: float, rows: int) -> int:
    """Return the number of threads, at least 1, that are worth their synchronization; see `choose_threads`."""
    return int(max(1, min(work / tuned("flops_per_thread"), max(2, rows // tuned("rows_per_thread")))))


def _mega(work: float) -> str:
    millions = work / 1e6
    return f"{millions:.2g}" if millions < 10 else f"{millions:.0f}"


def _affinity() -> int | None:
    """Return the number of processors that the process may run on, or None if the system does not tell."""
    if hasattr(os, "process_cpu_count"):  # Python 3.13: -X cpu_count and PYTHON_CPU_COUNT too
        counted: int | None = os.process_cpu_count()
        return counted
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None


def _environment() -> tuple[int, str] | None:
    """Return (number, reason) that the environment or `assign_threads` sets for the number of threads, or None."""
    assigned = _assigned.get()
    text = os.environ.get("FASTMLP_NUM_THREADS", "").strip()
    if text:
        count = _positive(text)
        if count is None:
            raise BackendError(f"FASTMLP_NUM_THREADS is {text[:40]!r}; expected an integer of at least 1.")
        own = count, f"FASTMLP_NUM_THREADS={count}"
        return own if assigned is None else min(own, assigned, key=lambda bound: bound[0])
    if assigned is not None:
        return assigned
    # A list gives the threads of nested parallel regions; the first entry is the outermost region's.
    count = _positive(os.environ.get("OMP_NUM_THREADS", "").partition(",")[0])
    return None if count is None else (count, f"OMP_NUM_THREADS={count}")


def _positive(text: str) -> int | None:
    try:
        count = int(text)
    except ValueError:
        return None
    return count if count > 0 else None


def _quota() -> float | None:
    """Return the processors that the control groups of the process grant, None without a limit."""
    quotas = (_read_quota(group) for group in control_groups("cpu"))
    return min((quota for quota in quotas if quota is not None), default=None)


def _read_quota(group: ControlGroup) -> float | None:
    """Return quota / period of one control group, or None without a limit."""
    files = ("cpu.cfs_quota_us", "cpu.cfs_period_us") if group.version == 1 else ("cpu.max",)
    try:
        fields = [field for file in files for field in (group.folder / file).read_text().split()]
        quota, period = int(fields[0]), int(fields[1])
    except (OSError, ValueError, IndexError):  # no such group, "max", or an unknown format
        return None
    return quota / period if quota > 0 and period > 0 else None
