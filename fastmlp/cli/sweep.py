"""``fastmlp sweep``: train over a grid of options, or at random in it, and rank the runs."""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from ..errors import ModelFileError
from ..files import atomic_write
from ..threads import usable_threads
from . import train
from .compare import history_of, print_ranking
from .options import INTERRUPTED, Parser, UsageError, at_least
from .runs import STATE

__all__ = ["add_parser"]

_PLAN = "sweep.json"


def add_parser(commands: Any) -> None:
    """Add the command's parser."""
    parser = commands.add_parser(
        "sweep",
        help="train over a grid of options, and rank the runs",
        description="Train once for each combination of options, several at a time, and rank the runs by test loss. "
        "The same command again goes on with a sweep that was interrupted.",
        epilog="example: fastmlp sweep --grid lr=0.001,0.01 --grid hidden=50:100,50 -- --dataset digits --epochs 5\n"
        "Values are separated by commas, or by colons where they hold commas themselves; those of an option\n"
        "without a value are true and false.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.set_defaults(run=run)
    parser.hint = "options of train come after --"
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
    runs = _runs(names, combinations, args.train)
    folder = Path(args.out).expanduser()
    again = _claim(folder, runs)
    usable = usable_threads().count
    jobs = min(args.jobs or usable, len(runs))
    environment = {**os.environ, "FASTMLP_NUM_THREADS": str(max(1, usable // jobs))}
    print(
        f"{len(runs)} run{'s' if len(runs) > 1 else ''}, {jobs} at a time, in {folder}{', going on' if again else ''}",
        flush=True,
    )

    ended: dict[str, str | None] = {}
    children = _Children()
    with children.ended_with_us(), ThreadPoolExecutor(jobs) as pool:
        try:
            made = pool.map(lambda item: children.run(_command(folder / item[0], item[1]), environment), runs.items())
            for name, problem in zip(runs, made, strict=True):
                if children.ending:
                    break
                out = str(folder / name)
                ended[out] = problem
                note = "" if problem is None else f": {problem}"
                print(f"{'done  ' if problem is None else 'failed'} {out}{note}", flush=True)
        except BaseException:
            children.end(signal.SIGTERM)
            raise
    histories = {out: history_of(Path(out)) for out, problem in ended.items() if problem is None}
    if not histories and not children.ending:
        raise ModelFileError("No run of the sweep succeeded.")
    if histories:
        print()
        print_ranking(histories)
    if children.ending:
        print(f"\nstopped after {len(ended)} of {len(runs)} runs; the same command again goes on")
        return INTERRUPTED if children.ending == signal.SIGINT else 128 + children.ending
    return 0 if len(histories) == len(runs) else 1


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


def _runs(names: list[str], combinations: list[tuple[str, ...]], common: list[str]) -> dict[str, list[str]]:
    """The options of each run by its folder's name; all of them are such that train takes them."""
    parser = Parser(prog="fastmlp", allow_abbrev=False)
    train.add_parser(parser.add_subparsers())
    flags = [name for name, value in vars(parser.parse_args(["train"])).items() if value is False]
    runs = {}
    for values in combinations:
        label = ",".join(f"{name}={value}" for name, value in zip(names, values, strict=True))
        given = [text for pair in zip(names, values, strict=True) for text in _option(*pair, flags)]
        runs[label.replace("/", "_")] = [*common, *given]
        parser.parse_args(["train", *common, *given])
    return runs


def _option(name: str, value: str, flags: list[str]) -> list[str]:
    if name.replace("-", "_") not in flags:
        return [f"--{name}={value}"]
    if value not in ("true", "false"):
        raise UsageError(f"--grid has {value[:40]!r} for {name}; expected true or false.")
    return [f"--{name}"] if value == "true" else []


def _claim(folder: Path, runs: dict[str, list[str]]) -> bool:
    """Make the folder, or find this very sweep there: then True."""
    plan = folder / _PLAN
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        try:
            known = json.loads(plan.read_bytes()) if plan.is_file() else None
        except ValueError:
            known = None
        if known != runs:
            what = "holds another sweep" if plan.is_file() else "is not empty"
            raise FileExistsError(f"{folder} {what}; give another --out.")
        return True
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_write(plan) as stream:
        stream.write(json.dumps(runs, indent=2).encode() + b"\n")
    return False


def _command(out: Path, options: list[str]) -> list[str]:
    """What makes a run, or goes on with it; of one that has ended it changes nothing."""
    train_ = [sys.executable, "-m", "fastmlp", "train", "--quiet"]
    if (out / STATE).is_file():
        return [*train_, "--resume", str(out)]
    return [*train_, *options, "--out", str(out), *(["--force"] if out.exists() else [])]


class _Children:
    """The processes of the runs, which do not outlive this one.

    Attributes
    ----------
    ending : int or None
        The signal by which it all ends.
    """

    def __init__(self) -> None:
        self.ending: int | None = None
        self._lock = threading.Lock()
        self._running: list[subprocess.Popen[str]] = []

    def run(self, command: list[str], environment: dict[str, str]) -> str | None:
        """Wait for a process; None, or the last line of its errors."""
        with self._lock:
            if self.ending:
                return "not begun"
            # In a session of its own: Ctrl-C in the terminal comes from us, and once.
            child = subprocess.Popen(
                command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
                errors="replace", start_new_session=True,
            )  # fmt: skip
            self._running.append(child)
        _, errors = child.communicate()
        with self._lock:
            self._running.remove(child)
        return None if child.returncode == 0 else (errors.strip().splitlines() or ["no message"])[-1]

    @contextmanager
    def ended_with_us(self) -> Iterator[None]:
        """Pass Ctrl-C and SIGTERM on to the runs: as Ctrl-C, by which they save their states, and then as SIGTERM."""

        def pass_on(number: int, frame: FrameType | None) -> None:
            first = self.ending is None and before[signal.SIGINT] != signal.SIG_IGN
            self.ending = number
            # By another thread: this one may be holding the lock.
            threading.Thread(target=self.end, args=(signal.SIGINT if first else signal.SIGTERM,)).start()

        numbers = (signal.SIGINT, signal.SIGTERM)
        before = {number: signal.getsignal(number) for number in numbers}
        try:
            for number in numbers:
                if before[number] != signal.SIG_IGN:
                    signal.signal(number, pass_on)
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def end(self, number: int) -> None:
        """Send a signal to the runs, and begin no other."""
        with self._lock:
            self.ending = self.ending or number
            for child in self._running:
                if os.name == "posix":
                    child.send_signal(number)
                else:
                    child.terminate()
