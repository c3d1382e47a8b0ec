# Threads that help with a call of a `Plan`: one team for the process, used by one call at a time; other calls compute
# alone. After a job a helper looks for the next one for a while, then sleeps on its lock. The threads are not those of
# `cpu.team`, which Python code starts for each run: a call may take less time than that.

import os
import threading

cdef enum:
    ASLEEP = 0
    AWAKE = 1

    MOST_THREADS = 64
    SPINS = 4096  # looks for work, each some tens of nanoseconds, before a thread sleeps

cdef Py_ssize_t _owned = 0
cdef Py_ssize_t _active = 0
cdef Py_ssize_t _job = 0  # address of the posted job
cdef Py_ssize_t _states[MOST_THREADS]
_locks = []


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


def _serve(Py_ssize_t index, lock):
    while True:
        lock.acquire()
        with nogil:
            _help(index)


cdef int _wake(Py_ssize_t helpers) except -1:
    """Wake helpers, and start those that are missing."""
    cdef Py_ssize_t i
    while len(_locks) < helpers:
        lock = threading.Lock()
        lock.acquire()
        i = len(_locks)
        _states[i] = ASLEEP
        threading.Thread(target=_serve, args=(i, lock), name=f"fastmlp-predict-{i}", daemon=True).start()
        _locks.append(lock)
    for i in range(helpers):
        if atomic_swap(&_states[i], ASLEEP, AWAKE):
            _locks[i].release()
    return 0


def _after_fork():
    """Begin anew: the child has none of the threads."""
    global _owned, _active, _job
    _locks.clear()
    _owned = _active = _job = 0


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
        except RuntimeError:  # the system starts no further thread: this one does the work
            pass
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


