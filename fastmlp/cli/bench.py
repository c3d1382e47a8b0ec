"""``fastmlp bench``: training steps beside those of PyTorch, JAX and scikit-learn."""

from __future__ import annotations

import argparse
import itertools
import os
import sys
import time
from pathlib import Path
from typing import Any

from ..benchmark import CASES, Settings, growth, inference, memory, report
from ..benchmark import run as run_cases
from ..benchmark.contender import OURS, PEERS
from ..benchmark.machine import usable_cores
from .options import UsageError, at_least, number

__all__ = ["add_parser"]

_QUICK = {"rounds": 3, "seconds": 0.05}
_FULL = {"rounds": 7, "seconds": 0.3}


def add_parser(commands: Any) -> None:
    """Add the command's parser."""
    parser = commands.add_parser(
        "bench",
        help="time training steps beside other libraries",
        description="Time training steps of fastmlp and of those of PyTorch, torch.compile, JAX and scikit-learn that "
        "are installed, in turns, after checking that all compute the same; exit code 1 if fastmlp does not. "
        "Writes a JSON file and prints a table.",
        allow_abbrev=False,
    )
    parser.set_defaults(run=run)
    parser.add_argument("--cases", metavar="A,B", help="which (default: all): " + ", ".join(CASES))
    parser.add_argument("--peers", metavar="A,B", help="beside which (default: all): " + ", ".join(PEERS))
    parser.add_argument("--threads", type=at_least(1, 4096), metavar="N", help="of each (default: the usable cores)")
    parser.add_argument("--rounds", type=at_least(1, 10**6), metavar="N", help="timings of each (default: 7)")
    parser.add_argument(
        "--seconds",
        type=number(0, above=True, below=3600),
        metavar="S",
        help="about how long each takes (default: 0.3)",
    )
    parser.add_argument("--quick", action="store_true", help="3 rounds of 0.05 s, and 3 points of each --growth")
    parser.add_argument("--growth", action="store_true", help="also how a step grows with batch, width and depth")
    parser.add_argument("--memory", action="store_true", help="also the peak memory of case big beside PyTorch's")
    parser.add_argument(
        "--inference",
        action="store_true",
        help="time predictions instead, of one row and of 10,000, beside ONNX Runtime and others",
    )
    parser.add_argument("--out", metavar="FILE", help="(default: bench-DATE.json, in bench/results where there is one)")
    parser.add_argument("--table", metavar="FILE", help="only print the table of a JSON file that there is")


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    if args.table is not None:
        print(report.table(report.read(args.table)))
        return 0
    if args.inference:
        return _inference(args)
    cases = [CASES[name] for name in _chosen(args.cases, list(CASES), "--cases")]
    default = _QUICK if args.quick else _FULL
    settings = Settings(
        peers=_chosen(args.peers, list(PEERS), "--peers"),
        threads=args.threads or usable_cores(),
        rounds=args.rounds or int(default["rounds"]),
        seconds=args.seconds or default["seconds"],
    )
    if settings.threads > usable_cores():
        raise UsageError(f"--threads is {settings.threads}; expected at most {usable_cores()}, the usable cores.")
    out = _out(args.out)
    document = run_cases(cases, settings, _say)
    report.write(document, out)  # before anything else can go wrong
    if args.memory:
        document["memory"] = memory.measure(threads=settings.threads)
    if args.growth:
        axes = {axis: values[1::3] if args.quick else values for axis, values in growth.AXES.items()}
        document["growth"] = growth.sweep(axes, settings.rounds, settings.seconds / 3, _say)
        picture = out.with_suffix(".png")
        reason = growth.draw(document["growth"], f"A training step, {document['machine']['cpu']}", picture)
        _say(f"no picture: {reason}" if reason else f"saved {picture}")
    report.write(document, out)
    print(report.table(document))
    _say(f"saved {out}")
    return int(any(case["contenders"][OURS]["status"] != "ok" for case in document["cases"]))


def _inference(args: argparse.Namespace) -> int:
    """Time predictions."""
    for option in ("cases", "threads", "growth", "memory"):
        if getattr(args, option):
            raise UsageError(f"--{option} is of training steps; --inference has cases and threads of its own.")
    out = _out(args.out, "inference")
    document = inference.run(
        peers=_chosen(args.peers, list(inference.PEERS), "--peers"),
        rounds=args.rounds or (3 if args.quick else 15),
        seconds=args.seconds or (0.01 if args.quick else 0.05),
        say=_say,
    )
    report.write(document, out)
    print(inference.table(document))
    _say(f"saved {out}")
    return int(any(case["contenders"][OURS]["status"] != "ok" for case in document["cases"]))


def _chosen(text: str | None, known: list[str], option: str) -> list[str]:
    """The names in a list with commas; nothing at all chooses none."""
    if text is None:
        return known
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in known:
            raise UsageError(f"{option} has {name!r}; expected of {', '.join(known)}.")
    return [name for name in known if name in names]


def _out(out: str | None, kind: str = "bench") -> Path:
    """The file to write; a folder that is not there is found out before anything is timed."""
    if out == "":
        raise UsageError("--out is empty; expected a file.")
    if out is None:
        results = Path("bench", "results")
        folder, stem = results if results.is_dir() else Path(), f"{kind}-{time.strftime('%Y-%m-%d')}"
        names = (f"{stem}-{number}.json" if number > 1 else f"{stem}.json" for number in itertools.count(1))
        return next(folder / name for name in names if not (folder / name).exists())
    path = Path(os.path.expanduser(out))
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder; expected a file for the results.")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path.parent} is not a folder; expected one for the results.")
    return path


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
