"""Runs of Python code on several ranks of MPI, and the group of ranks that are threads of one process."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from fastmlp._common.group import Group, tree_sum

MPIEXEC = Path(sys.executable).with_name("mpiexec")


def command(ranks, *arguments):
    """Return the command that runs Python with these arguments on a number of ranks."""
    pytest.importorskip("mpi4py")
    if not MPIEXEC.exists():
        pytest.skip(f"there is no {MPIEXEC}: pip install mpich")
    return [str(MPIEXEC), "-n", str(ranks), sys.executable, *map(str, arguments)]


def environment(**changes):
    """Return the environment of ranks, without the settings of a run in which the tests themselves may be."""
    own = {key: value for key, value in os.environ.items() if not key.startswith(("PMI", "MPI", "HYDRA", "OMPI"))}
    return {**own, "PYTHONPATH": str(Path(__file__).parent), "FASTMLP_NUM_THREADS": "2", **changes}


def run_ranks(ranks, *arguments, timeout=120, check=True, **options):
    """Run Python with these arguments on ranks of MPI; return the completed process."""
    done = subprocess.run(
        command(ranks, *arguments), capture_output=True, text=True, timeout=timeout, env=environment(), **options
    )
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done


class _Meeting:
    """Place where the threads of a `ThreadGroup` meet."""

    def __init__(self, size):
        self.barrier, self.given = threading.Barrier(size), [None] * size


class ThreadGroup(Group):
    """Rank that is a thread of this process."""

    def __init__(self, rank, meeting):
        super().__init__()
        self.rank, self.size, self._meeting = rank, len(meeting.given), meeting

    def _all(self, value):
        self._meeting.given[self.rank] = value
        self._meeting.barrier.wait(60)
        found = list(self._meeting.given)
        self._meeting.barrier.wait(60)
        return found

    def share_bytes(self, data):
        return self._all(data)[0]

    def sum(self, *arrays):
        super().sum(*arrays)
        for parts, array in zip(zip(*self._all([array.copy() for array in arrays])), arrays):
            array[:] = tree_sum(list(parts))

    def abort(self, message):
        self._meeting.barrier.abort()


def on_threads(size, job):
    """Call ``job(group)`` on each of ``size`` ranks; return their results, or raise the first exception."""
    meeting, results, errors = _Meeting(size), [None] * size, []

    def work(rank):
        try:
            results[rank] = job(ThreadGroup(rank, meeting))
        except BaseException as error:
            errors.append(error)
            results[rank] = error

    threads = [threading.Thread(target=work, args=(rank,)) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results, errors
