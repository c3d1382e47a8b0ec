"""Interleaved timings of several functions: warm up, then alternate, and compare medians."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping


def interleaved(
    contenders: Mapping[str, Callable[[], object]], seconds: float = 1.0, rounds: int = 25
) -> dict[str, float]:
    """Return the median seconds per call of each contender, over ``rounds`` alternating batches of calls."""
    calls = {}
    for name, call in contenders.items():
        call()
        start = time.perf_counter()
        call()
        once = time.perf_counter() - start
        calls[name] = max(1, int(seconds / rounds / len(contenders) / max(once, 1e-7)))
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, call in contenders.items():
            start = time.perf_counter()
            for _ in range(calls[name]):
                call()
            times[name].append((time.perf_counter() - start) / calls[name])
    return {name: statistics.median(values) for name, values in times.items()}
