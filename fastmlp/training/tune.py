"""Measurement of the choices of `_common.tuning` on this processor."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np

from .._common.threads import usable_threads
from .._common.tuning import override
from .._kernels import use_backend
from ..engine.runner import Engine
from ..engine.support import layers_of, work_of
from ..losses.cross_entropy import CrossEntropyLoss
from ..modules import MLP
from ..optim.adam import Adam
from .batches import check_rows

__all__ = ["Measured", "measure"]

_ROWS = 2048
_GAIN = 1.005  # of the absence of a prefetch, in the median of the rounds
_CALL = 0.005  # seconds of a timing of small nets, which contains the start of the threads
# Of a second thread. Processors of a virtual machine exchange memory slowly at times; small steps then take twice the
# time on two threads.
_THREAD_GAIN = 1.3
_ROUNDS = 5, 40  # fewest, most


class Measured(NamedTuple):
    """Value of a choice, and the measurement in words."""

    value: int
    reason: str


class _Clock:
    """Sums of the times of steps and of what their threads ran, as a share of which other processes show."""

    def __init__(self) -> None:
        self.expected = self.running = 0.0

    def seconds(self, call: Callable[[], object], threads: int) -> float:
        """Return the time of a call of so many threads."""
        began, ran = time.perf_counter(), time.process_time()
        call()
        took = time.perf_counter() - began
        self.expected, self.running = self.expected + threads * took, self.running + time.process_time() - ran
        return took


def measure(limit: float = 2.0) -> tuple[dict[str, Measured], float]:
    """Measure the choices that have an effect on this processor.

    Kernels that are not compiled yet are compiled first.

    Parameters
    ----------
    limit : float
        Approximate seconds of all timings together.

    Returns
    -------
    dict of str to Measured
        By name of the choice.
    float
        Share of the time for which the threads ran: below about 0.85, other processes disturbed the measurement.

    Examples
    --------
    >>> found, running = measure(0.01)
    >>> found["panel_prefetch"].value in (0, 1)
    True
    """
    threads, clock = usable_threads().count, _Clock()
    with use_backend("numba"):
        _Steps([64, 64], 16, 1, _Clock()).seconds(2)  # compiles
        found = {
            "panel_prefetch": _prefetch(
                "panel_prefetch", "weights for a product", sorted({1, threads}), 0.35 * limit, clock
            ),
            "weight_prefetch": _prefetch("weight_prefetch", "weights for their update", [1], 0.2 * limit, clock),
        }
        if threads > 1:
            found["flops_per_thread"] = _flops_per_thread(0.45 * limit, clock)
    return found, clock.running / clock.expected


class _Steps:
    """Steps of a net for classification with Adam.

    Parameters
    ----------
    widths : list of int
        Of the inputs and the hidden layers.
    batch, threads : int
    clock : _Clock
    """

    def __init__(self, widths: list[int], batch: int, threads: int, clock: _Clock) -> None:
        generator = np.random.default_rng(0)
        model = MLP(widths[0], widths[1:], 10, rng=0)
        loss = CrossEntropyLoss()
        features = generator.standard_normal((_ROWS, widths[0])).astype(np.float32)
        self._rows = check_rows(features, generator.integers(0, 10, _ROWS), None, model, loss, "tune")
        self._engine = Engine(model, loss, Adam(1e-6), threads, batch, fixed=True)
        self._engine.load()
        self._threads, self._clock = threads, clock
        self._batch, self._index = batch, generator.permutation(_ROWS)
        self.work = work_of(layers_of(model), batch)

    def renew(self) -> None:
        """Make the tables anew, with the present choices, and run them once."""
        self._engine.renew_plan()
        self.seconds(1)

    def seconds(self, steps: int) -> float:
        """Return the time of a step, of ``steps`` in one native call."""
        index = np.resize(self._index, steps * self._batch)
        bounds = np.arange(0, len(index) + 1, self._batch)
        return self._clock.seconds(partial(self._engine.run, self._rows, index, bounds, 0, 0), self._threads) / steps


def _alternate(timings: Sequence[Callable[[], float]], limit: float) -> list[list[float]]:
    """Return the results of timings, which are called in turns for about ``limit`` seconds."""
    end = time.perf_counter() + limit
    times: list[list[float]] = [[] for _ in timings]
    for number in range(_ROUNDS[1]):
        if number >= _ROUNDS[0] and time.perf_counter() > end:
            break
        for place in range(len(timings)):
            place = (place + number) % len(timings)
            times[place].append(timings[place]())
    return times


def _prefetch(name: str, what: str, threads: Sequence[int], limit: float, clock: _Clock) -> Measured:
    """Measure whether a net whose weights are in L3 is faster without a prefetch, on each of the numbers of threads."""
    speedups = []
    for count in threads:
        steps = _Steps([784, 512, 512], 128, count, clock)

        def seconds(value: int, steps: _Steps = steps) -> float:
            with override(**{name: value}):
                steps.renew()
                return steps.seconds(3)

        times = _alternate([partial(seconds, 1), partial(seconds, 0)], limit / len(threads))
        speedups.append(statistics.median(a / b for a, b in zip(*times, strict=True)))
    found = " and ".join(f"{speedup:.3f}" for speedup in speedups)
    on = "one thread" if len(threads) == 1 else f"one and {threads[-1]} threads"
    text = f"without the prefetch of {what}, a step of 784-512-512-10 is {found} times as fast on {on}"
    return Measured(0 if min(speedups) > _GAIN else 1, text)


def _flops_per_thread(limit: float, clock: _Clock) -> Measured:
    """Measure from which work of a step on two threads are faster than one."""
    least, found = math.inf, []
    widths = (192, 128, 96, 64, 48, 32)
    for width in widths:
        pair = [_Steps([width, width, width], 32, threads, clock) for threads in (1, 2)]
        work, steps = pair[0].work, int(_CALL / pair[0].seconds(10)) + 1
        times = _alternate([partial(one.seconds, steps) for one in pair], limit / len(widths))
        speedup = statistics.median(times[0]) / statistics.median(times[1])
        found.append(f"{speedup:.2f} ({work / 1e6:.2g} Mflop)")
        if speedup < _THREAD_GAIN:
            break
        least = work / 2
    if least == math.inf:
        least = work
    return Measured(int(float(f"{least:.2g}")), f"two threads over one, by the work of a step: {', '.join(found)}")
