# Threads that help with a call of a `Plan`, taken from the pool of the process by one call at a time; other calls compute
# alone. After a job a helper looks for the next one for a while before it goes back to the pool, as a call may take less
# time than it takes to wake a thread.

import functools
import os

from ..._common.thread_pool import POOL

cdef enum:
    ASLEEP = 0
    AWAKE = 1

    MOST_THREADS = 64
    SPINS = 4096  # looks for work, each some tens of nanoseconds, before a thread goes back to the pool

cdef Py_ssize_t _owned = 0
cdef Py_ssize_t _active = 0
cdef Py_ssize_t _job = 0  # address of the posted job
cdef Py_ssize_t _states[MOST_THREADS]


cdef void _help(Py_ssize_t index) noexcept nogil:
    """Work on posted jobs; return when there was none for a while."""
    cdef Py_ssize_t looks = 0
    cdef Job *job
    while True:
        atomic_add(&_active, 1)  # from here until it is taken back, the owner waits
        job = <Job *> atomic_get(&_job)
        if job != NULL and atomic_get(&job.next) < job.chunks:
            _work(job)
            looks = 0
        atomic_add(&_active, -1)
        looks += 1
        if looks > SPINS:
            atomic_set(&_states[index], ASLEEP)
            # A job posted before this thread was seen asleep is not missed.
            if atomic_get(&_job) == 0 or not atomic_swap(&_states[index], ASLEEP, AWAKE):
                return
            looks = 0
        wait_a_little(looks)


def _serve(Py_ssize_t index):
    with nogil:
        _help(index)


cdef int _wake(Py_ssize_t helpers) except -1:
    """Take the helpers from the pool that do not look for work."""
    cdef Py_ssize_t i
    for i in range(helpers):
        if atomic_swap(&_states[i], ASLEEP, AWAKE):
            try:
                POOL.start(functools.partial(_serve, i))
            except BaseException as error:
                atomic_set(&_states[i], ASLEEP)
                if not isinstance(error, RuntimeError):
                    raise
                break  # the system starts no further thread: the others do the work
    return 0


def _after_fork():
    """Begin anew: the child has none of the threads."""
    global _owned, _active, _job
    cdef Py_ssize_t i
    _owned = _active = _job = 0
    for i in range(MOST_THREADS):
        _states[i] = ASLEEP


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


cdef int _run(Job *job, Py_ssize_t threads, bint keep_gil) except -1:
    cdef Py_ssize_t helpers = min(threads, job.chunks, MOST_THREADS) - 1, turn = 0
    if not HAS_TEAM or helpers < 1 or not atomic_swap(&_owned, 0, 1):
        if keep_gil:
            _work(job)
        else:
            with nogil:
                _work(job)
    else:
        atomic_set(&_job, <Py_ssize_t> job)
        try:
            _wake(helpers)
        finally:  # after Ctrl-C too: helpers may hold the job, which is gone when this returns
            with nogil:
                _work(job)
                while atomic_get(&job.done) < job.chunks:
                    wait_a_little(turn)
                    turn += 1
                atomic_set(&_job, 0)
                while atomic_get(&_active):
                    wait_a_little(turn)
                    turn += 1
                atomic_set(&_owned, 0)
    if job.failed:
        raise MemoryError("Not enough memory for the activations of a block of rows.")
    return 0
