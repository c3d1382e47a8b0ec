"""JSON files of benchmark runs, and tables made from them."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import Any

from ..io.files import atomic_write
from . import first_fit, inference
from .contender import OURS, PEERS
from .runner import FORMAT

__all__ = ["add_best_rate", "read", "table", "write"]

_FORMER_NAMES = {"seed": "cifar10"}  # of cases in older files
_TITLES = {"torch": "PyTorch", "torch.compile": "torch.compile", "jax": "JAX", "scikit-learn": "scikit-learn"}


def write(document: dict[str, Any], path: str | os.PathLike[str]) -> None:
    """Write the JSON file atomically."""
    with atomic_write(path) as stream:
        stream.write(json.dumps(document, indent=1, allow_nan=False).encode() + b"\n")


def read(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a file of `write`, with former names of cases replaced.

    Raises
    ------
    ValueError
        If the file is not a result of ``fastmlp bench``.
    """
    with open(path, "rb") as stream:
        content = stream.read()
    try:
        document: Any = json.loads(content)
        if document["format"] not in (FORMAT, inference.FORMAT, first_fit.FORMAT):
            raise ValueError(f"its format is {document['format']!r}")
        for case in document["cases"]:
            if "name" in case:
                case["name"] = _FORMER_NAMES.get(case["name"], case["name"])
        table(document)
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is not a result of fastmlp bench: {type(error).__name__}: {error}.") from error
    return dict(document)


def add_best_rate(document: dict[str, Any], folder: Path) -> None:
    """Add the best rate of the micro-kernel in this run and in earlier ones on the same processor.

    A run beside other processes measures a low rate, which would make its fractions look good.

    Parameters
    ----------
    document : dict
        Result of `run_cases`; ``best_gflops`` is added.
    folder : Path
        Folder with files of earlier runs, ``bench-*.json``; files of other content are ignored.
    """

    def rates(other: dict[str, Any]) -> list[float]:
        if (other["machine"]["cpu"], other["threads"]) != (document["machine"]["cpu"], document["threads"]):
            return []
        return [case["peak_gflops"] for case in other["cases"] if case.get("peak_gflops")]

    found = rates(document)
    for path in sorted(folder.glob("bench-*.json")):
        with contextlib.suppress(ValueError, LookupError, TypeError, AttributeError, OSError):
            found += rates(json.loads(path.read_bytes()))
    document["best_gflops"] = max(found, default=None)


def table(document: dict[str, Any]) -> str:
    """Format the results as a Markdown table, in microseconds per step or call, followed by notes."""
    if document["format"] == inference.FORMAT:
        return inference.table(document)
    if document["format"] == first_fit.FORMAT:
        return first_fit.table(document)
    cases, machine = document["cases"], document["machine"]
    shown = [name for name in PEERS if any(name in case["contenders"] for case in cases)]
    heading = ["case", "net", "batch", "update", OURS, *(_TITLES[name] for name in shown)]
    heading += ["speedup over the best peer", "fraction of the micro-kernel's rate"]
    best = document.get("best_gflops")
    heading += [] if best is None else ["fraction of the best rate seen on this processor"]
    lines = [_row(heading), _row(["---"] * len(heading))]
    for case in cases:
        contenders = case["contenders"]
        cells = [case["name"], case["net"], str(case["batch"]), case["optimizer"]]
        cells += [_cell(contenders.get(name)) for name in (OURS, *shown)]
        cells += [_number(case["ratio"]), _number(case["fraction_of_peak"])]
        cells += [] if best is None else [_number(case["gflops"] and case["gflops"] / best)]
        lines.append(_row(cells))
    lines += ["", f"Microseconds per training step, medians of {document['rounds']} rounds (quartiles); float32, "
        f"{document['threads']} {'thread' if document['threads'] == 1 else 'threads'}; {document['date'][:10]}, "
        f"{machine['cpu']}, {machine['cores']} cores; "
        + ", ".join(f"{name} {version}" for name, version in document["versions"].items()) + "."]  # fmt: skip
    lines += _notes(document)
    return "\n".join(lines)


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _time(us: float) -> str:
    return f"{us:.1f}" if us < 1000 else f"{us:.0f}"


def _cell(numbers: dict[str, Any] | None) -> str:
    if numbers is None or numbers["status"] == "left out":
        return "-"
    if numbers["status"] != "ok":
        return str(numbers["status"])
    low, high = numbers["quartiles"]
    return f"{_time(numbers['us'])} ({_time(low)} to {_time(high)})"


def _is_disturbed(case: dict[str, Any], document: dict[str, Any]) -> bool:
    """Return whether other processes needed the same cores, which can slow waiting threads a hundredfold."""
    wanted = document["threads"] + (case["other_load"] or 0.0)
    return bool(wanted > document["machine"]["processors"] + 0.1)


def _notes(document: dict[str, Any]) -> list[str]:
    notes = [f"{name}: {reason}." for name, reason in document["left_out"].items()]
    disturbed = [
        f"{case['name']} {case['other_load']:.2f}" for case in document["cases"] if _is_disturbed(case, document)
    ]
    if disturbed:
        notes.append(f"Unreliable, as other processes used cores during the timing: {', '.join(disturbed)}.")
    for case in document["cases"]:
        for name, numbers in case["contenders"].items():
            if numbers["status"] in ("failed", "wrong"):
                notes.append(f"{name} in {case['name']}: {numbers['status']}, {numbers['why']}.")
    latencies = [
        f"{case['name']} {_time(case['trainer_step']['us'])} us (batch {case['batch']})"
        for case in document["cases"]
        if "trainer_step" in case
    ]
    if latencies:
        notes.append(f"One call of `Trainer.step`: {', '.join(latencies)}.")
    memory = document.get("memory")
    if memory:
        parts = [
            f"{name} {numbers['bytes'] / 2**20:.0f} MiB" if "bytes" in numbers else f"{name} {numbers['why']}"
            for name, numbers in memory["contenders"].items()
        ]
        notes.append(
            f"Memory of training, case {memory['case']}, without the data set: {', '.join(parts)}; "
            f"weights and gradients are {memory['weights_and_gradients'] / 2**20:.0f} MiB."
        )
    return notes and ["", *notes]
