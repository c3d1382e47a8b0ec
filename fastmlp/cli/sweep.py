"""``fastmlp sweep``: train over a grid of options, or at random in it, and rank the runs."""

from __future__ import annotations

import argparse
import itertools
import os
import random
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from ..errors import ModelFileError
from ..threads import usable_threads
from .compare import history_of, print_ranking
from .options import UsageError, at_least

__all__ = ["add_parser"]


def add_parser(commands: Any) -> None:
    """Add the command's parser."""
    parser = commands.add_parser(
        "sweep",
        help="train over a grid of options, and rank the runs",
        description="Train once for each combination of options, several at a time, and rank the runs by test loss.",
        epilog="example: fastmlp sweep --grid lr=0.001,0.01 --grid hidden=50:100,50 -- --dataset digits --epochs 5\n"
        "Values are separated by commas, or by colons where they hold commas themselves.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.set_defaults(run=run)
    parser.add_argument(
        "--grid", action="append", required=True, metavar="OPTION=V,V,...", help="an option of train, and its values"
    )
    parser.add_argument("--random", type=at_least(1), metavar="N", help="only N combinations, drawn at random")
    parser.add_argument("--seed", type=at_least(0), default=0, metavar="N", help="of --random (default: 0)")
    parser.add_argument("--jobs", type=at_least(1), metavar="N", help="runs at a time (default: one a processor)")
    parser.add_argument("--out", default="sweep", metavar="DIR", help="folder of the runs (default: sweep)")
    parser.add_argument("train", nargs="*", metavar="-- OPTION", help="options of all runs, see fastmlp train --help")


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    axes = [_axis(text) for text in args.grid]
    names = [name for name, _ in axes]
    if len(set(names)) < len(names):
        raise UsageError("--grid names an option twice; give all its values at once.")
    combinations = list(itertools.product(*(values for _, values in axes)))
    if args.random is not None and args.random < len(combinations):
        combinations = random.Random(args.seed).sample(combinations, args.random)
    folder = Path(args.out).expanduser()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FileExistsError(f"{folder} is not empty; give another --out.")
    folder.mkdir(parents=True, exist_ok=True)
    usable = usable_threads().count
    jobs = min(args.jobs or usable, len(combinations))
    environment = {**os.environ, "FASTMLP_NUM_THREADS": str(max(1, usable // jobs))}
    print(f"{len(combinations)} runs, {jobs} at a time, in {folder}", flush=True)

    def train(values: tuple[str, ...]) -> tuple[str, str | None]:
        label = ",".join(f"{name}={value}" for name, value in zip(names, values, strict=True))
        out = folder / label.replace("/", "_")
        given = [f"--{name}={value}" for name, value in zip(names, values, strict=True)]
        command = [sys.executable, "-m", "fastmlp", "train", *args.train, *given, "--out", str(out), "--quiet"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, errors="replace")
        return str(out), None if done.returncode == 0 else (done.stderr.strip().splitlines() or ["no message"])[-1]

    with ThreadPoolExecutor(jobs) as pool:
        ended = []
        for out, problem in pool.map(train, combinations):
            print(
                f"{'done  ' if problem is None else 'failed'} {out}{'' if problem is None else f': {problem}'}",
                flush=True,
            )
            ended.append((out, problem))
    histories = {out: history_of(Path(out)) for out, problem in ended if problem is None}
    if not histories:
        raise ModelFileError("No run of the sweep succeeded.")
    print()
    print_ranking(histories)
    return 0 if len(histories) == len(ended) else 1


def _axis(text: str) -> tuple[str, list[str]]:
    name, equals, values = text.partition("=")
    name = name.strip().removeprefix("--")
    found = [value.strip() for value in values.split(":" if ":" in values else ",")]
    if not equals or not name or not all(found):
        raise UsageError(f"--grid has {text[:40]!r}; expected an option and its values, as in lr=0.1,0.01.")
    if name in ("out", "resume", "config", "force", "quiet"):
        raise UsageError(f"--grid cannot vary {name}.")
    if len(set(found)) < len(found):
        raise UsageError(f"--grid has a value of {name} twice.")
    return name, found
