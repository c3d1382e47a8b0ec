"""Group of the ranks of an MPI run."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from .._common.errors import BackendError
from .._common.group import Group
from .._common.installed import library
from .._common.validation import Array, as_number

__all__ = ["MPIGroup", "mpi"]

# Arrays of more bytes are halved at each level, so that each rank sends each number once or twice, however many ranks
# there are; smaller ones are exchanged whole, in half the number of messages. Both add by the same tree.
_WHOLE = 1 << 15
_BLOCK = 1 << 30  # bytes of a message
_REMEDY = 'pip install "fastmlp[mpi]", or mpi4py alone where the cluster has an MPI'


def mpi(timeout: float | None = None) -> MPIGroup:
    """Return the group of all ranks that ``mpiexec`` has started.

    Parameters
    ----------
    timeout : float, optional
        Seconds after which a rank that waits for others ends the run. None keeps that of the last call; at first ranks
        wait without an end.

    Returns
    -------
    MPIGroup
        For the argument ``group`` of `Trainer.fit`; the same object at each call.

    Raises
    ------
    BackendError
        If mpi4py or an MPI library is not installed (``pip install "fastmlp[mpi]"``).
    ValueError
        If ``timeout`` is not above 0.

    Examples
    --------
    >>> import fastmlp as fm
    >>> group = fm.distributed.mpi()  # doctest: +SKIP
    """
    seconds = None if timeout is None else as_number(timeout, "timeout", 0, open_low=True)
    library("mpi4py", _REMEDY)
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:
        raise BackendError(f"mpi4py finds no MPI library ({error}): {_REMEDY}.") from error
    if not _GROUPS:
        _GROUPS.append(MPIGroup(MPI.COMM_WORLD))
    if seconds is not None:
        _GROUPS[0].watch(seconds)
    return _GROUPS[0]


class MPIGroup(Group):
    """Ranks of an MPI communicator.

    Sums go by recursive halving and doubling in messages between pairs of ranks, and each number is added by the same
    binary tree. MPI's own Allreduce may take other orders, which depend on the library, the size and the number of
    ranks.

    Parameters
    ----------
    comm : mpi4py.MPI.Comm
        Duplicated, so that messages cannot meet those of other code.
    """

    def __init__(self, comm: Any) -> None:
        super().__init__()
        from mpi4py import MPI

        if MPI.Query_thread() < MPI.THREAD_SERIALIZED:
            raise BackendError(
                "MPI was started without threads; expected at least MPI_THREAD_SERIALIZED, the default of mpi4py."
            )
        self._comm = comm.Dup()
        self.rank, self.size = self._comm.Get_rank(), self._comm.Get_size()
        local = self._comm.Split_type(MPI.COMM_TYPE_SHARED)
        self.local_size = local.Get_size()
        local.Free()
        self._scratch: Array = np.empty(0, np.uint8)
        self._watchdog: Watchdog | None = None
        # Another thread than the one that waits may call MPI_Abort.
        self._any_thread = MPI.Query_thread() >= MPI.THREAD_MULTIPLE

    def watch(self, timeout: float) -> None:
        """End the run if a sum or a share takes longer than ``timeout`` seconds."""
        if self._watchdog is not None:
            self._watchdog.stop()
        self._watchdog = Watchdog(timeout, self._expired)

    def _expired(self, seconds: float) -> None:
        message = f"waited {seconds:g} s for other ranks, the timeout; the run ends."
        if self._any_thread:
            self.abort(message)
        print(f"{self.name}: {message}", file=sys.stderr, flush=True)
        os.kill(os.getpid(), signal.SIGTERM)  # mpiexec then ends the other ranks

    def abort(self, message: str) -> None:
        """Print the message with the name of the rank, and end the processes of all ranks with exit code 1."""
        print(f"{self.name}: {message}", file=sys.stderr, flush=True)
        self._comm.Abort(1)

    @contextlib.contextmanager
    def _watched(self) -> Iterator[None]:
        if self._watchdog is None:
            yield
            return
        self._watchdog.begin()
        try:
            yield
        finally:
            self._watchdog.end()

    def share_bytes(self, data: bytes | None) -> bytes:
        """Return the data of rank 0; the argument of other ranks is not used."""
        if self.size == 1:
            return super().share_bytes(data)
        with self._watched():
            size = np.array([0 if data is None else len(data)], np.int64)
            self._comm.Bcast(size, 0)
            memory = np.empty(int(size[0]), np.uint8)
            if self.rank == 0:
                assert data is not None
                memory = np.frombuffer(data, np.uint8)
            for start in range(0, len(memory), _BLOCK):
                self._comm.Bcast(memory[start : start + _BLOCK], 0)
            return memory.tobytes()

    def sum(self, *arrays: Array) -> None:
        """Add each array over the ranks, in place and in the order of `tree_sum`; see `Group.sum`."""
        super().sum(*arrays)
        if self.size == 1:
            return
        with self._watched():
            small = [array for array in arrays if array.nbytes <= _WHOLE]
            if small:
                self._sum_packed(small)
            for array in arrays:
                if array.nbytes > _WHOLE:
                    self._sum_halves(array)

    def _room(self, size: int) -> Array:
        if len(self._scratch) < size:
            self._scratch = np.empty(size, np.uint8)
        return self._scratch[:size]

    def _swap(self, sent: Array, received: Array, other: int) -> None:
        """Send an array to another rank, and receive its array."""
        sent, received = sent.view(np.uint8), received.view(np.uint8)
        for start in range(0, max(len(sent), len(received), 1), _BLOCK):
            stop = start + _BLOCK
            self._comm.Sendrecv(sent[start:stop], other, recvbuf=received[start:stop], source=other)

    @property
    def _most(self) -> int:
        """The largest power of two that is not above the number of ranks."""
        return 1 << (self.size.bit_length() - 1)

    def _add_outer(self, array: Array) -> bool:
        """Add the arrays of the ranks from 2^k on to those of the first ones; return whether it is one."""
        most = self._most
        if self.rank >= most:
            self._send(array, self.rank - most)
            return False
        if self.rank + most < self.size:
            other = self._room(array.nbytes).view(array.dtype)
            self._receive(other, self.rank + most)
            array += other
        return True

    def _send(self, array: Array, other: int) -> None:
        memory = array.view(np.uint8)
        for start in range(0, len(memory), _BLOCK):
            self._comm.Send(memory[start : start + _BLOCK], other)

    def _receive(self, array: Array, other: int) -> None:
        memory = array.view(np.uint8)
        for start in range(0, len(memory), _BLOCK):
            self._comm.Recv(memory[start : start + _BLOCK], other)

    def _give_outer(self, array: Array) -> None:
        """Send the sum to the ranks from 2^k on."""
        most = self._most
        if self.rank >= most:
            self._receive(array, self.rank - most)
        elif self.rank + most < self.size:
            self._send(array, self.rank + most)

    def _sum_packed(self, arrays: list[Array]) -> None:
        """Add small arrays by recursive doubling, in one message a level."""
        kinds = {array.dtype for array in arrays}
        packs = [np.concatenate([array for array in arrays if array.dtype == kind]) for kind in kinds]
        packs.sort(key=lambda pack: -pack.dtype.itemsize)  # so that each begins at a multiple of its size
        ends = np.cumsum([0, *(pack.nbytes for pack in packs)])
        sent = np.concatenate([pack.view(np.uint8) for pack in packs])
        if self.size & (self.size - 1):
            for pack in packs:
                self._add_outer(pack)
        received = self._room(len(sent))
        mask = 1
        while mask < self._most and self.rank < self._most:
            for pack, start, end in zip(packs, ends[:-1], ends[1:], strict=True):
                sent[start:end] = pack.view(np.uint8)
            self._swap(sent, received, self.rank ^ mask)
            for pack, start, end in zip(packs, ends[:-1], ends[1:], strict=True):
                pack += received[start:end].view(pack.dtype)  # the same bits on both sides: a + b is b + a
            mask *= 2
        if self.size & (self.size - 1):
            for pack in packs:
                self._give_outer(pack)
        for pack in packs:
            at = 0
            for array in arrays:
                if array.dtype == pack.dtype:
                    array[:] = pack[at : at + len(array)]
                    at += len(array)

    def _sum_halves(self, array: Array) -> None:
        """Add a large array by recursive halving, then give each rank all sums by recursive doubling."""
        if self._add_outer(array):
            first, last, mask = 0, len(array), 1
            path = []
            while mask < self._most:
                other, middle = self.rank ^ mask, (first + last) // 2
                kept, given = (first, middle), (middle, last)
                if self.rank > other:
                    kept, given = given, kept
                received = self._room((kept[1] - kept[0]) * array.itemsize).view(array.dtype)
                self._swap(array[slice(*given)], received, other)
                array[slice(*kept)] += received
                path.append((other, kept, given))
                (first, last), mask = kept, mask * 2
            for other, kept, given in reversed(path):
                self._swap(array[slice(*kept)], array[slice(*given)], other)
        self._give_outer(array)


_GROUPS: list[MPIGroup] = []


class Watchdog:
    """Thread that calls ``expired(seconds)`` if an operation takes longer than a number of seconds.

    Parameters
    ----------
    seconds : float
    expired : callable
    """

    def __init__(self, seconds: float, expired: Any) -> None:
        self._seconds, self._expired = seconds, expired
        self._since: float | None = None
        self._stopped = threading.Event()
        threading.Thread(target=self._run, daemon=True, name="fastmlp-watchdog").start()

    def begin(self) -> None:
        """Begin an operation."""
        self._since = time.monotonic()

    def end(self) -> None:
        """End the operation."""
        self._since = None

    def stop(self) -> None:
        """End the thread."""
        self._stopped.set()

    def _run(self) -> None:
        while not self._stopped.wait(min(1.0, self._seconds / 4)):
            since = self._since
            if since is not None and time.monotonic() - since > self._seconds:
                self._expired(self._seconds)
                return
