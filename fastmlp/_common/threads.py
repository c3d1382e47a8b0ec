"""The one place that decides how many threads run.

Nothing is remembered: affinity, quota and environment may change between two calls. A call reads a few
small files, so it belongs before a loop, not into it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from .errors import BackendError
from .validation import as_integer

__all__ = ["WORK_PER_THREAD", "Limit", "choose_threads", "usable_threads"]

# Floating-point operations of a step for each thread: with fewer, waiting for each other costs more than it gains.
WORK_PER_THREAD = 1_500_000

_CGROUPS = Path("/sys/fs/cgroup")
_OWN_CGROUPS = Path("/proc/self/cgroup")


@dataclass(frozen=True)
class Limit:
    """A number of threads and what it follows from.

    Attributes
    ----------
    count : int
        At least 1.
    reason : str
        For people, without the number itself.
    """

    count: int
    reason: str

    def __str__(self) -> str:
        return f"{self.count}: {self.reason}"


def usable_threads() -> Limit:
    """How many threads can run at once in this process, and what bounds them.

    The smallest of: the processors; those that the process may run on; the quota of its control groups,
    rounded down; and the environment's FASTMLP_NUM_THREADS or, without it, OMP_NUM_THREADS.

    Raises
    ------
    BackendError
        If FASTMLP_NUM_THREADS is not a positive integer. OMP_NUM_THREADS is for others too: what it holds
        instead of one is ignored.
    """
    asked = _environment()
    there = os.cpu_count() or 1
    bounds = [(there, "all there are"), (_affinity() or there, f"affinity, of {there}")]
    quota = _quota() if bounds[1][0] > 1 else None
    if quota is not None:
        bounds.append((max(1, int(quota)), f"cgroup quota of {quota:g}"))
    if asked is not None:
        bounds.append(asked)
    count, why = min(bounds, key=lambda bound: bound[0])  # of equal ones the first
    return Limit(count, f"{count} processor{'' if count == 1 else 's'} usable ({why})")


def choose_threads(requested: int | None, work: float) -> Limit:
    """How many threads a run is to have.

    Parameters
    ----------
    requested : int or None
        What the user asked for, which is then the number, however many processors there are.
    work : float
        Floating-point operations of a step: without a request, each thread is to have `WORK_PER_THREAD`,
        and no more of them run than `usable_threads` says.

    Raises
    ------
    ValueError
        If ``requested`` is not a positive integer.
    BackendError
        As `usable_threads`.
    """
    if requested is not None:
        count = as_integer(requested, "threads")
        return Limit(count, f"threads={count} was asked for")
    _environment()  # a mistake in it shows whatever the work
    step, share = f"a step has {_mega(work)} Mflop", _mega(WORK_PER_THREAD)
    if work < 2 * WORK_PER_THREAD:
        return Limit(1, f"{step}, less than {share} for each of two threads")
    usable = usable_threads()
    return Limit(
        int(min(usable.count, work // WORK_PER_THREAD)), f"{step}, at least {share} for each thread; {usable.reason}"
    )


def _mega(work: float) -> str:
    millions = work / 1e6
    return f"{millions:.2g}" if millions < 10 else f"{millions:.0f}"


def _affinity() -> int | None:
    """Processors that the process may run on, where the system tells."""
    if hasattr(os, "process_cpu_count"):  # Python 3.13: -X cpu_count and PYTHON_CPU_COUNT too
        counted: int | None = os.process_cpu_count()
        return counted
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None


def _environment() -> tuple[int, str] | None:
    """The number that a variable asks for, and which one."""
    text = os.environ.get("FASTMLP_NUM_THREADS", "").strip()
    if text:
        count = _positive(text)
        if count is None:
            raise BackendError(f"FASTMLP_NUM_THREADS is {text[:40]!r}; expected an integer of at least 1.")
        return count, f"FASTMLP_NUM_THREADS={count}"
    # A list of them is for nested parallel regions: ours is the outermost.
    count = _positive(os.environ.get("OMP_NUM_THREADS", "").partition(",")[0])
    return None if count is None else (count, f"OMP_NUM_THREADS={count}")


def _positive(text: str) -> int | None:
    try:
        count = int(text)
    except ValueError:
        return None
    return count if count > 0 else None


def _quota() -> float | None:
    """Processors that the process's control groups grant, of version 2 or 1; None without a limit.

    A group is bound by those above it as well, so the smallest quota on the way up counts. In a container
    the path may be the host's and not exist here; the container's own group is then the root.
    """
    try:
        lines = _OWN_CGROUPS.read_text().splitlines()
    except OSError:
        lines = ["0::/", "1:cpu:/"]
    quotas = []
    for line in lines:
        _, controllers, path = (*line.split(":", 2), "", "")[:3]
        if controllers and "cpu" not in controllers.split(","):
            continue
        roots = (controllers, "cpu") if controllers else ("", "unified")
        files = ("cpu.cfs_quota_us", "cpu.cfs_period_us") if controllers else ("cpu.max",)
        parts = [part for part in path.split("/") if part]
        if ".." in parts:  # the process was moved out of what it can see
            parts = []
        for root in dict.fromkeys(roots):
            for depth in range(len(parts) + 1):
                quotas.append(_read_quota(_CGROUPS.joinpath(root, *parts[:depth]), files))
    return min((quota for quota in quotas if quota is not None), default=None)


def _read_quota(folder: Path, files: tuple[str, ...]) -> float | None:
    """Of one group: microseconds that it may run over those of a period."""
    try:
        fields = [field for file in files for field in (folder / file).read_text().split()]
        quota, period = int(fields[0]), int(fields[1])
    except (OSError, ValueError, IndexError):  # no such group, "max", or an unknown form
        return None
    return quota / period if quota > 0 and period > 0 else None
