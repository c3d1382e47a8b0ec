"""Number of threads of a run beside other processes, from given times."""

from __future__ import annotations

import numpy as np
import pytest

import fastmlp as fm
from fastmlp.engine.active_threads import ActiveThreads

ROWS = 1000


class Machine:
    """Times of calls on processors of which other processes take ``busy``."""

    def __init__(self, processors, busy=0.0):
        self.processors, self.busy = processors, busy

    def call(self, active, times=1):
        """Record calls; return the numbers of threads that they had."""
        seen = []
        for _ in range(times):
            free = self.processors - self.busy
            speed = active.count if active.count <= free else 0.6 * free  # threads that do not run stop the others
            seconds = 0.03 / speed
            seen.append(active.count)
            active.record(ROWS, seconds, min(active.count, free) * seconds)
        return seen


@pytest.mark.parametrize("most", [1, 2, 3, 16])
def test_all_threads_run_on_an_idle_machine(most):
    active = ActiveThreads(most)
    assert set(Machine(most).call(active, 1000)) == {most} and active.mean == most


@pytest.mark.parametrize("processors, busy, ref", [(2, 1, 1), (2, 0.5, 1), (4, 1, 3), (16, 1, 15)])
def test_busy_processors_are_left_to_others_until_they_are_free(processors, busy, ref):
    active, machine = ActiveThreads(processors), Machine(processors, busy)
    seen = machine.call(active, 2000)
    assert seen[:6] == [processors] * 5 + [ref]
    assert seen[200:].count(ref) > 0.9 * len(seen[200:]) and set(seen) == {ref, processors}
    machine.busy = 0
    assert set(machine.call(active, 200)[140:]) == {processors}
    active.restart()
    machine.call(active)
    assert active.mean == processors


def test_fewer_threads_that_are_slower_are_tried_rarely():
    """Threads do not run all the time, but the processors are free, as while a disk is read."""
    active, seen = ActiveThreads(2), []
    for _ in range(2000):
        seen.append(active.count)
        active.record(ROWS, 0.02 if active.count == 2 else 0.03, 0.03)
    assert 0.9 < seen.count(2) / len(seen) < 1


def test_short_calls_and_a_given_number_change_nothing():
    active = ActiveThreads(2)
    for _ in range(10):
        active.record(10, 1e-4, 1e-4)
    assert active.count == 2
    fixed = ActiveThreads(2, fixed=True)
    assert set(Machine(2, 1).call(fixed, 100)) == {2}


def test_bits_do_not_depend_on_a_change_during_a_fit(monkeypatch):
    generator = np.random.default_rng(0)
    X, y = generator.standard_normal((500, 30)).astype(np.float32), generator.integers(0, 3, 500)

    def trained(counts):
        monkeypatch.setattr(ActiveThreads, "record", lambda self, *_: setattr(self, "count", next(counts)))
        trainer = fm.Trainer(fm.MLP(30, [40], 3, rng=0), fm.CrossEntropyLoss(), fm.Adam(0.01))
        trainer._open_session(3, 50).chunk = 1
        trainer.fit(X, y, batch_size=50, epochs=3, rng=0, threads=3)
        return [array.tobytes() for array in trainer.model.state_dict().values()]

    ref, comp = trained(iter([3] * 100)), trained(iter([1, 3, 2, 2, 1] * 20))
    assert ref == comp


def test_a_fit_tells_the_mean(monkeypatch):
    trainer = fm.Trainer(fm.MLP(5, [4], 2, rng=0), fm.CrossEntropyLoss(), fm.SGD(0.1))
    assert trainer.mean_threads is None
    trainer.fit(np.ones((20, 5)), np.arange(20) % 2, epochs=1, threads=2)
    assert (trainer.threads, trainer.mean_threads) == (2, 2.0)
