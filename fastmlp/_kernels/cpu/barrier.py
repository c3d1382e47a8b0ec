"""Barrier of the threads of a run, which also ends if one of them aborts."""

from __future__ import annotations

from .jit import inline
from .native import atomic_add, atomic_load, pause, yield_processor

__all__ = ["ABORT", "CONTROLS", "wait_for_all"]

# Entries of ``control``, each on a separate cache line to avoid false sharing.
ARRIVED, RELEASED, ABORT, CONTROLS = 0, 16, 32, 48


@inline
def wait_for_all(control, threads, turn):
    """Wait until all threads have arrived for the ``turn``-th time; return False if a thread has aborted."""
    if threads == 1:
        return True
    # Waiting threads poll another cache line than the one that arriving threads write.
    if atomic_add(control, ARRIVED, 1) + 1 == turn * threads:
        atomic_add(control, RELEASED, 1)
        return True
    spins = 0
    while atomic_load(control, RELEASED) < turn:
        if atomic_load(control, ABORT) != 0:
            return False
        spins += 1
        if spins < 1000:
            pause()
        else:
            yield_processor()
    return True
