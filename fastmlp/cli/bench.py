"""``fastmlp bench``: speed of training and inference compared with other libraries."""

from __future__ import annotations

import argparse
import itertools
import os
import re
import sys
import time
from pathlib import Path
from typing import Any

from .._common.processor import processor
from ..benchmark import CASES, Settings, first_fit, growth, inference, memory, report
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
        help="compare the speed with other libraries",
        description="Time training steps of fastmlp and of PyTorch, torch.compile, JAX and scikit-learn, if installed, "
        "after checking that all of them compute the same. Write a JSON file and print a table. "
        "The exit code is 1 if the results of fastmlp are wrong.",
        allow_abbrev=False,
    )
    parser.set_defaults(run=run)
    parser.add_argument("--cases", metavar="A,B", help="cases to time (default: all): " + ", ".join(CASES))
    parser.add_argument("--peers", metavar="A,B", help="other libraries to time (default: all): " + ", ".join(PEERS))
    parser.add_argument(
        "--threads", type=at_least(1, 4096), metavar="N", help="threads of each library (default: all usable cores)"
    )
    parser.add_argument("--rounds", type=at_least(1, 10**6), metavar="N", help="timings of each library (default: 7)")
    parser.add_argument(
        "--seconds",
        type=number(0, above=True, below=3600),
        metavar="S",
        help="approximate duration of one timing (default: 0.3)",
    )
    parser.add_argument("--quick", action="store_true", help="3 rounds of 0.05 s; with --growth 3 points per curve")
    parser.add_argument(
        "--growth", action="store_true", help="also time steps for growing batch sizes, widths and depths"
    )
    parser.add_argument("--memory", action="store_true", help="also measure the peak memory of the case big")
    parser.add_argument(
        "--inference",
        action="store_true",
        help="time predictions of one row and of 10,000 rows instead of training",
    )
    parser.add_argument(
        "--startup", action="store_true", help="time processes up to the end of a first small fit instead of training"
    )
    parser.add_argument(
        "--out", metavar="FILE", help="JSON file (default: bench-PROCESSOR-DATE.json, in bench/results if it exists)"
    )
    parser.add_argument("--table", metavar="FILE", help="print the table of an existing JSON file, without timing")


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    if args.table is not None:
        print(report.table(report.read(args.table)))
        return 0
    if args.startup and args.inference:
        raise UsageError("There is one benchmark in a call; give --startup or --inference.")
    if args.inference:
        return _inference(args)
    if args.startup:
        return _startup(args)
    cases = [CASES[name] for name in _select(args.cases, list(CASES), "--cases")]
    default = _QUICK if args.quick else _FULL
    settings = Settings(
        peers=_select(args.peers, list(PEERS), "--peers"),
        threads=args.threads or usable_cores(),
        rounds=args.rounds or int(default["rounds"]),
        seconds=args.seconds or default["seconds"],
    )
    if settings.threads > usable_cores():
        raise UsageError(f"--threads is {settings.threads}; expected at most {usable_cores()}, the usable cores.")
    out = _out(args.out)
    document = run_cases(cases, settings, _log)
    report.add_best_rate(document, out.parent)
    report.write(document, out)  # before the optional parts, which may fail
    if args.memory:
        document["memory"] = memory.measure(threads=settings.threads)
    if args.growth:
        axes = {axis: values[1::3] if args.quick else values for axis, values in growth.AXES.items()}
        document["growth"] = growth.sweep(axes, settings.rounds, settings.seconds / 3, _log)
        picture = out.with_suffix(".png")
        reason = growth.draw(document["growth"], f"A training step, {document['machine']['cpu']}", picture)
        _log(f"no picture: {reason}" if reason else f"saved {picture}")
    report.write(document, out)
    print(report.table(document))
    _log(f"saved {out}")
    return int(any(case["contenders"][OURS]["status"] != "ok" for case in document["cases"]))


def _inference(args: argparse.Namespace) -> int:
    """Run the benchmark of predictions."""
    _refuse(args, ("cases", "threads", "growth", "memory"), "--inference")
    out = _out(args.out, "inference")
    document = inference.run(
        peers=_select(args.peers, list(inference.PEERS), "--peers"),
        rounds=args.rounds or (3 if args.quick else 15),
        seconds=args.seconds or (0.01 if args.quick else 0.05),
        log=_log,
    )
    report.write(document, out)
    print(inference.table(document))
    _log(f"saved {out}")
    return int(any(case["contenders"][OURS]["status"] != "ok" for case in document["cases"]))


def _startup(args: argparse.Namespace) -> int:
    """Run the benchmark of first fits."""
    _refuse(args, ("cases", "peers", "threads", "growth", "memory", "seconds"), "--startup")
    out = _out(args.out, "startup")
    document = first_fit.run(args.rounds or (3 if args.quick else 9), _log)
    report.write(document, out)
    print(first_fit.table(document))
    _log(f"saved {out}")
    return 0


def _refuse(args: argparse.Namespace, options: tuple[str, ...], other: str) -> None:
    """Raise an error for options of the training benchmark."""
    for option in options:
        if getattr(args, option):
            raise UsageError(f"--{option} is an option of the training benchmark; leave it out with {other}.")


def _select(text: str | None, known: list[str], option: str) -> list[str]:
    """Return the known names in a comma-separated list; an empty list selects none."""
    if text is None:
        return known
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in known:
            raise UsageError(f"{option} has {name!r}; expected one of {', '.join(known)}.")
    return [name for name in known if name in names]


def _out(out: str | None, kind: str = "bench") -> Path:
    """Return the file to write; check its folder before the timings start."""
    if out == "":
        raise UsageError("--out is empty; expected a file.")
    if out is None:
        results = Path("bench", "results")
        folder = results if results.is_dir() else Path()
        stem = f"{kind}-{re.sub('[^a-z0-9]+', '-', processor().lower()).strip('-')}-{time.strftime('%Y-%m-%d')}"
        names = (f"{stem}-{number}.json" if number > 1 else f"{stem}.json" for number in itertools.count(1))
        return next(folder / name for name in names if not (folder / name).exists())
    path = Path(os.path.expanduser(out))
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder; expected a file for the results.")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path.parent} is not a folder; expected an existing folder for the results.")
    return path


def _log(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
