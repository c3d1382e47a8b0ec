"""Interleaved timings: each round times every contender once, so that changes of the machine's speed affect all."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .._common.validation import Array
from .contender import Contender

__all__ = ["PAUSE", "alternate", "steps_for", "summary"]

PAUSE = 0.005  # seconds before each timing, in which the threads of the previous contender stop polling for work
_MOST_STEPS = 50_000


def steps_for(contender: Contender, order: Callable[[int], Array], seconds: float) -> int:
    """Return the number of steps that take about ``seconds``; ``order(n)`` returns the rows of ``n`` steps."""
    steps = 2
    while True:
        took = contender.seconds(order(steps))
        wanted = steps * seconds / max(took, 1e-9)
        if took >= seconds / 3 or steps >= _MOST_STEPS:
            return max(1, min(_MOST_STEPS, round(wanted)))
        # At most a factor of 16, as the first steps may be slower than the following ones.
        steps = min(_MOST_STEPS, 16 * steps, max(2 * steps, round(wanted)))


def alternate(
    contenders: Mapping[str, Contender],
    order: Callable[[int], Array],
    rounds: int,
    seconds: float,
    between: Callable[[], object] = lambda: None,
) -> dict[str, dict[str, Any]]:
    """Time each contender once per round; the first contender changes from round to round.

    Parameters
    ----------
    contenders : mapping of str to Contender
        Contenders by name.
    order : callable
        ``order(n)`` returns the rows of ``n`` steps.
    rounds : int
        Number of rounds.
    seconds : float
        Approximate duration of one timing.
    between : callable
        Called at the end of each round.

    Returns
    -------
    dict
        For each name ``steps`` of a timing, ``us`` (microseconds per step), ``quartiles`` and ``cores``: the
        processor time of this process divided by the wall time, which shows how many threads were active.
    """
    orders = {}
    for name, contender in contenders.items():
        orders[name] = order(steps_for(contender, order, seconds))
        contender.seconds(orders[name])
    times: dict[str, list[float]] = {name: [] for name in contenders}
    cores: dict[str, list[float]] = {name: [] for name in contenders}
    names = list(contenders)
    for number in range(rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            time.sleep(PAUSE)
            wall, busy = time.perf_counter(), time.process_time()
            times[name].append(1e6 * contenders[name].seconds(orders[name]) / len(orders[name]))
            cores[name].append((time.process_time() - busy) / (time.perf_counter() - wall))
        time.sleep(PAUSE)
        between()
    return {
        name: {
            "steps": len(orders[name]),
            **summary(times[name]),
            "cores": round(statistics.median(cores[name]), 2),
        }
        for name in names
    }


def summary(times: Sequence[float]) -> dict[str, Any]:
    """Return the median and the quartiles of times in microseconds."""
    low, middle, high = statistics.quantiles(times, n=4, method="inclusive") if len(times) > 1 else 3 * [times[0]]
    return {"us": middle, "quartiles": [low, high]}
