"""Threads and processes: no effect on the bits, and no thread is left behind."""

from __future__ import annotations

import functools
import gc
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
import weakref
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import fastmlp as fm

numba = pytest.importorskip("numba")
if numba.config.DISABLE_JIT:
    pytest.skip("the engine runs jitted only", allow_module_level=True)

from fastmlp._common import thread_pool  # noqa: E402
from fastmlp._kernels.cpu import engine as kernels  # noqa: E402
from fastmlp._kernels.cpu import team  # noqa: E402

BATCH = 13
generator = np.random.default_rng(5)
X, Y = generator.standard_normal((33, 9)).astype(np.float32), generator.integers(0, 3, 33)

# Code that a spawned process imports; it cannot import the test module.
JOB = """
import fastmlp as fm

def train(seed, threads, X, y):
    with fm.use_backend("numba"):
        trainer = fm.Trainer(fm.MLP(9, [12], 3, "tanh", dropout=0.2, rng=seed), fm.CrossEntropyLoss(), fm.Adam(0.01))
    trainer.fit(X, y, batch_size=13, max_steps=40, rng=seed, threads=threads)
    assert trainer._session is not None
    return b"".join(array.tobytes() for array in trainer.model.state_dict().values())
"""
exec(JOB)


@pytest.fixture(autouse=True)
def on_numba():
    end_threads()
    with fm.use_backend("numba"):
        yield
    end_threads()


def end_threads():
    """End the threads of the pool, to which all must come back, helpers of a `Predictor` some time after its call."""
    until = time.monotonic() + 60
    while threads_left() and time.monotonic() < until:
        thread_pool.POOL.end()
    assert not threads_left()


def threads_left():
    """The engine's threads that are running."""
    return {thread for thread in threading.enumerate() if thread.name.startswith("fastmlp")}


def trainer_of(threads=2):
    """One that has made a step on so many threads, which now wait for the next."""
    trainer = fm.Trainer(fm.MLP(9, [12], 3, "tanh", rng=0), fm.CrossEntropyLoss(), fm.Adam(0.01))
    trainer._open_session(threads, BATCH).engine.prepare(BATCH, threads=threads)
    trainer.step(X[:BATCH], Y[:BATCH])
    return trainer


def weights(trainer):
    return b"".join(array.tobytes() for array in trainer.model.state_dict().values())


def test_trainers_share_the_threads_of_the_process():
    trainers = [trainer_of(3) for _ in range(5)]
    assert len(threads_left()) == 2
    for trainer, threads in zip(trainers, (3, 1, 2, 3, 2)):
        trainer.fit(X, Y, max_steps=2, threads=threads)
    assert len(threads_left()) == 2
    del trainers, trainer
    gc.collect()
    assert len(threads_left()) == 2


def test_a_run_never_waits_for_the_threads_of_another(monkeypatch):
    """The second run begins and ends while the first has both waiting threads; then as many wait as the larger took."""
    monkeypatch.setattr(thread_pool, "_PROCESSORS", 2)
    monkeypatch.setattr(thread_pool.POOL, "_largest", 0)
    inside, go_on = threading.Barrier(4), threading.Event()

    def first(thread):
        inside.wait(60)
        return go_on.wait(60)

    team.Team(3).run(lambda thread: None, {})
    runner = threading.Thread(target=lambda: team.Team(3).run(first, {}))
    runner.start()
    inside.wait(60)
    done = []
    team.Team(4).run(done.append, {})
    assert sorted(done) == [0, 1, 2, 3] and runner.is_alive()
    go_on.set()
    runner.join()
    assert len(threads_left()) == 3


def wait_for_helpers():
    """Wait until all threads wait; those that are too many end."""
    until = time.monotonic() + 60
    while len(threads_left()) > len(thread_pool.POOL._waiting) and time.monotonic() < until:
        time.sleep(0.001)


def test_a_predictor_takes_its_helpers_from_the_same_threads():
    predictor = fm.Predictor(fm.MLP(100, [300], 5, rng=0), threads=3)
    rows = np.ones((3000, 100), np.float32)
    threads = None
    for _ in range(20):
        trainer_of(3)
        predictor(rows)
        wait_for_helpers()
        assert len(threads_left()) == 2 and threads in (None, threads_left())
        threads = threads_left()


def test_threads_that_were_needed_beside_late_helpers_end(monkeypatch):
    """A helper that the system has not run yet is still taken when the next run begins, which starts other threads."""
    monkeypatch.setattr(thread_pool, "_PROCESSORS", 2)
    monkeypatch.setattr(thread_pool.POOL, "_largest", 0)
    go_on = threading.Event()
    for _ in range(4):
        thread_pool.POOL.start(lambda: go_on.wait(60))
    trainer_of(3)
    assert len(threads_left()) == 6
    go_on.set()
    wait_for_helpers()
    assert len(threads_left()) == 2


def test_an_error_does_not_stay_in_a_waiting_thread():
    class Big:
        pass

    big = Big()
    gone = weakref.ref(big)

    def job(thread, big=big):
        if thread:
            raise ArithmeticError(big)

    with pytest.raises(ArithmeticError):
        team.Team(2).run(job, {})
    del job, big
    gc.collect()
    assert gone() is None and len(threads_left()) == 1


def in_a_process(code):
    variables = {**os.environ, "PYTHONPATH": str(Path(fm.__file__).parents[1])}
    command = [sys.executable, "-W", "error", "-c", JOB + code]
    done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=100)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


WAITING = """
import numpy as np, threading
fm.set_backend("numba")
trainer = fm.Trainer(fm.MLP(9, [12], 3, rng=0), fm.CrossEntropyLoss(), fm.SGD())
trainer._open_session(3, 5).engine.prepare(5, threads=3)
trainer.step(np.ones((5, 9)), np.zeros(5, int))
print(sum(thread.name.startswith("fastmlp") for thread in threading.enumerate()))
"""
INTERRUPTED = """
import os, random, signal, threading, time
from fastmlp._common.thread_pool import POOL
from fastmlp._kernels.cpu.team import Team
team, control, ending, caught, made, armed = Team(3), {}, False, 0, 0, False
def raise_once(number, frame):
    global armed
    if armed:  # a second signal before the next run would leave the loop
        armed = False
        raise KeyboardInterrupt
signal.signal(signal.SIGINT, raise_once)
def interrupt():
    while not ending:
        time.sleep(random.uniform(0, 5e-4))
        os.kill(os.getpid(), signal.SIGINT)
def job(thread):
    working[thread] = True
    sum(range(random.randrange(2000)))
    working[thread] = False
    return "done"
kills, end = threading.Thread(target=interrupt), time.monotonic() + 3
kills.start()
while time.monotonic() < end:
    try:
        working, armed = {}, True
        assert team.run(job, control) == "done" and len(working) == 3 and not any(working.values())
        armed = False
        made += 1
    except KeyboardInterrupt:
        caught += 1
ending = True
kills.join()
team.run(job, control)
POOL.end()
print(caught > 100, made > 100, threading.active_count())
"""
CALLED_AWAY = """
import signal, time
from fastmlp._kernels.cpu.team import Team
class Away(Exception):
    pass
def away(number, frame):
    raise Away
signal.signal(signal.SIGALRM, away)
team, done = Team(2), []
def job(thread):
    time.sleep(0.4 * thread)
    done.append(thread)
for _ in range(3):
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    try:
        team.run(job, {})
    except Away:
        done.append("away")
team.run(job, {})
print(done)
"""
AT_ONCE = """
import threading
from concurrent.futures import ThreadPoolExecutor
import numpy as np
X, y = np.random.default_rng(0).standard_normal((33, 9)), np.arange(33) % 3
together = threading.Barrier(6)
def first(number):
    together.wait()
    return train(1, 1 + number % 2, X, y)
with ThreadPoolExecutor(6) as pool:
    print(len(set(pool.map(first, range(6)))))
"""


@pytest.mark.slow
def test_waiting_threads_do_not_keep_the_interpreter_alive():
    assert in_a_process(WAITING) == "2\n"


@pytest.mark.slow
@pytest.mark.usefixtures("interruptible")
@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_ctrl_c_at_any_moment_leaves_nobody_waiting():
    assert in_a_process(INTERRUPTED) == "True True 1\n"


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_other_signals_are_told_when_all_are_done():
    assert in_a_process(CALLED_AWAY) == f"{[0, 1, 'away'] * 3 + [0, 1]}\n"


@pytest.mark.slow
def test_many_models_may_be_the_first_at_once():
    """All threads request the same kernels, which are not loaded yet."""
    assert in_a_process(AT_ONCE) == "1\n"


def test_models_train_at_once_as_they_do_alone():
    cases = [(seed, threads, X, Y) for seed in range(6) for threads in (1, 2)]
    ref = [train(*case) for case in cases]  # noqa: F821
    with ThreadPoolExecutor(4) as pool:
        for _ in range(2):
            assert list(pool.map(lambda case: train(*case), cases)) == ref  # noqa: F821
    assert ref[0::2] == ref[1::2] and len(set(ref)) == 6


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_a_forked_child_trains(monkeypatch):
    ref = [train(1, threads, X, Y) for threads in (2, 1)]  # noqa: F821
    parent = trainer_of(2)  # its worker thread does not exist in the forked child
    twin = trainer_of(2)
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python warns of a fork with threads
        child = os.fork()
    if child == 0:
        signal.alarm(60)
        try:
            results = [train(1, threads, X, Y) for threads in (2, 1)]  # noqa: F821
            parent.step(X[:BATCH], Y[:BATCH])
            with os.fdopen(writing, "wb") as stream:
                stream.write(b"".join([*results, weights(parent)]))
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as stream:
        comp = stream.read()
    os.waitpid(child, 0)
    twin.step(X[:BATCH], Y[:BATCH])
    assert comp == b"".join([*ref, weights(twin)])
    parent.step(X[:BATCH], Y[:BATCH])
    assert weights(parent) == weights(twin)


@pytest.mark.slow
def test_a_spawned_child_trains(tmp_path, monkeypatch):
    (tmp_path / "engine_job.py").write_text(JOB)
    monkeypatch.syspath_prepend(tmp_path)
    job = __import__("engine_job")
    ref = train(1, 2, X, Y)  # noqa: F821
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        assert pool.submit(job.train, 1, 2, X, Y).result() == ref


@pytest.mark.parametrize("fails", [0, 1, 2])
def test_an_error_in_one_thread_is_raised_in_the_caller_and_ends_the_others(fails, monkeypatch):
    ref, comp = (fm.Trainer(fm.MLP(9, [12], 3, rng=0), fm.CrossEntropyLoss(), fm.Adam(0.01)) for _ in range(2))
    options = {"batch_size": BATCH, "threads": 3, "rng": 0}
    for trainer in (ref, comp):
        trainer.fit(X, Y, max_steps=6, **options)
    run = kernels.train

    def failing(thread, *rest):
        if thread == fails:
            raise MemoryError("in a thread")
        return run(thread, *rest)

    with monkeypatch.context() as patch, pytest.raises(MemoryError, match="in a thread"):
        patch.setattr(kernels, "train", failing)
        comp.fit(X, Y, max_steps=6, **options)
    assert weights(ref) == weights(comp)
    for trainer in (ref, comp):
        trainer._order.position = (2, 33)
        trainer.fit(X, Y, max_steps=6, **options)
    assert weights(ref) == weights(comp)


@pytest.mark.slow
@pytest.mark.parametrize("fails", [0, 1, 2])
def test_an_error_in_one_thread_takes_no_step_back(fails, monkeypatch):
    ref, comp = trainer_of(3), trainer_of(3)
    for trainer in (ref, comp):
        for _ in range(3):
            trainer.step(X[:BATCH], Y[:BATCH])

    def failing():
        raise MemoryError("in a thread")

    with monkeypatch.context() as patch, pytest.raises(MemoryError, match="in a thread"):
        patch.setitem(comp._session.engine.prepared.calls, (0, 3, fails), failing)
        comp.step(X[:BATCH], Y[:BATCH])
    assert weights(ref) == weights(comp) and ref.steps == comp.steps == comp.optimizer.steps
    assert ref.step(X[:BATCH], Y[:BATCH]) == comp.step(X[:BATCH], Y[:BATCH])


def test_an_error_when_threads_start_leaves_none_behind(monkeypatch):
    trainer = fm.Trainer(fm.MLP(9, [12], 3, rng=0), fm.CrossEntropyLoss(), fm.Adam(0.01))
    team.Team(2).run(lambda thread: None, {})
    before = threads_left()
    start, started = threading.Thread.start, []

    def third_fails(thread):
        started.append(thread)
        if len(started) == 2:
            raise RuntimeError("can't start new thread")
        start(thread)

    with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="can't start"):
        patch.setattr(threading.Thread, "start", third_fails)
        trainer.fit(X, Y, max_steps=6, threads=4)
    assert threads_left() == before
    trainer.fit(X, Y, max_steps=6, threads=4)


@pytest.mark.usefixtures("interruptible")
@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_no_call_returns_before_its_threads_are_done(monkeypatch):
    """Not even the one after a wait that Ctrl-C has ended."""
    trainer, working, killed = trainer_of(2), [], []
    calls = trainer._session.engine.prepared.calls

    def slow(thread, run):
        working.append(thread)
        result = run()
        if thread == 1:
            time.sleep(0.1)  # gives the caller time to start waiting
            if not killed:
                killed.append(os.kill(os.getpid(), signal.SIGINT))
            time.sleep(0.2)
        working.remove(thread)
        return result

    for thread in range(2):
        monkeypatch.setitem(calls, (0, 2, thread), functools.partial(slow, thread, calls[0, 2, thread]))
    with pytest.raises(KeyboardInterrupt):
        trainer.step(X[:BATCH], Y[:BATCH])
    assert working == []
    trainer.step(X[:BATCH], Y[:BATCH])
    assert working == []
