"""Benchmark run over the training cases: checks, timings and ratios."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from .cases import CASES, Case, batches, first_weights, make_data
from .contender import OURS, PEERS, Contender, find, missing
from .machine import OtherLoad, describe, usable_cores
from .ours import step_latency
from .peak import MicroKernel
from .timing import alternate, summary
from .validate import disagreement, reference

__all__ = ["FORMAT", "LATENCY", "Settings", "run", "time_case"]

FORMAT = 1  # of the JSON
LATENCY = ("tabular", "one")  # cases in which single calls of `Trainer.step` are timed too


@dataclass(frozen=True)
class Settings:
    """Settings of a run.

    Attributes
    ----------
    peers : sequence of str
        Names of `PEERS`.
    threads : int
        Threads of each contender.
    rounds : int
        Timings of each contender.
    seconds : float
        Approximate duration of one timing.
    checked_steps : int
        Number of steps that must agree with the reference.
    """

    peers: Sequence[str] = field(default_factory=lambda: tuple(PEERS))
    threads: int = field(default_factory=usable_cores)
    rounds: int = 7
    seconds: float = 0.3
    checked_steps: int = 5


def run(
    cases: Sequence[Case] = tuple(CASES.values()),
    settings: Settings | None = None,
    log: Callable[[str], object] = lambda line: None,
) -> dict[str, Any]:
    """Check and time the cases.

    Parameters
    ----------
    cases : sequence of Case
        Cases to time.
    settings : Settings, optional
        Settings of the run.
    log : callable
        Called with a line of text after each case.

    Returns
    -------
    dict
        Results as JSON types; `fastmlp.benchmark.report.table` formats them.
    """
    settings = settings or Settings()
    left_out = {name: reason for name in settings.peers if (reason := missing(name))}
    for name, reason in left_out.items():
        log(f"{name} left out: {reason}")
    document = {
        "format": FORMAT,
        "date": time.strftime("%Y-%m-%dT%H:%M:%S"),
        **describe(),
        "threads": settings.threads,
        "rounds": settings.rounds,
        "seconds": settings.seconds,
        "left_out": left_out,
        "cases": [],
    }
    peers = [name for name in settings.peers if name not in left_out]
    for case in cases:
        result = time_case(case, peers, settings)
        document["cases"].append(result)
        log(_summarize(result))
    return document


def time_case(case: Case, peers: Sequence[str], settings: Settings) -> dict[str, Any]:
    """Check and time one case; return its entry of ``cases``."""
    data = make_data(case)
    weights = first_weights(case, data)
    expected = reference(case, data, weights, batches(case, settings.checked_steps))
    results: dict[str, dict[str, Any]] = {}
    contenders: dict[str, Contender] = {}
    for name in (OURS, *peers):
        kind = find(name)
        if reason := kind.refuses(case):
            results[name] = {"status": "left out", "why": reason}
            continue
        try:
            contender = kind(case, data, weights, settings.threads)
            wrong = disagreement(contender, expected)
        except Exception as error:  # a failing peer, for example without a compiler, must not end the run
            if name == OURS:
                raise
            results[name] = {"status": "failed", "why": f"{type(error).__name__}: {_first_line(error)}"}
            continue
        results[name] = {"status": "wrong", "why": wrong} if wrong else {"status": "ok"}
        if not wrong:
            contenders[name] = contender
    micro_kernel, rates, load = MicroKernel(settings.threads), list[float](), OtherLoad()
    if contenders:
        timed = alternate(
            contenders,
            lambda steps: batches(case, steps),
            settings.rounds,
            settings.seconds,
            lambda: rates.append(micro_kernel.rate()),
        )
        for name, numbers in timed.items():
            results[name].update(numbers)
    result: dict[str, Any] = {
        "name": case.name,
        "kind": case.kind,
        "net": case.net,
        "batch": case.batch,
        "loss": case.loss,
        "optimizer": case.update,
        "source": f"{case.rows} rows of {'uint8' if case.uint8 else 'float32'}",
        "contenders": results,
        **_compare(case, results, rates),
        "other_load": load.cores(),
    }
    if case.name in LATENCY and results[OURS]["status"] == "ok":
        steps = max(10, round(settings.seconds / (1e-6 * results[OURS]["us"]) / 4))
        result["trainer_step"] = summary([1e6 * t for t in step_latency(case, data, min(steps, 20_000))])
    return result


def _compare(case: Case, results: dict[str, dict[str, Any]], rates: list[float]) -> dict[str, Any]:
    """Return the ratios to the best peer and to the micro-kernel; None where one is missing."""
    ours = results[OURS].get("us")
    others = {name: numbers["us"] for name, numbers in results.items() if name != OURS and "us" in numbers}
    best = min(others, key=others.__getitem__) if others else None
    rate = None if ours is None else case.useful_operations / ours / 1e3
    peak = statistics.median(rates) / 1e9 if rates else None
    return {
        "best_peer": best,
        "ratio": others[best] / ours if best and ours else None,
        "gflops": rate,
        "peak_gflops": peak,
        "fraction_of_peak": rate / peak if rate and peak else None,
    }


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or ["no message"])[0][:200]


def _summarize(result: dict[str, Any]) -> str:
    """Format the result of a case as one line."""
    parts = [
        f"{name} {numbers['us']:.1f} us" if "us" in numbers else f"{name} {numbers['status']} ({numbers['why']})"
        for name, numbers in result["contenders"].items()
    ]
    return f"{result['name']}: {', '.join(parts)}"
