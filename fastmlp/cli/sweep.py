"""``fastmlp sweep``: train over a grid of options, or at random in it, and rank the runs."""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import IO, Any

from .._common.errors import ModelFileError
from .._common.threads import usable_threads
from ..callbacks.history import History
from ..io.files import atomic_write
from . import train
from .compare import history_of, print_ranking
from .options import INTERRUPTED, NOTE, Parser, UsageError, at_least
from .runs import STATE

__all__ = ["add_parser"]

_PLAN, _LOCK = "sweep.json", ".lock"
_LONGEST = 200  # bytes of a folder's name
_PATIENCE = 10  # seconds to wait for the runs of a sweep that was killed


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
    runs = _runs([_axis(text) for text in args.grid], args)
    folder = Path(args.out).expanduser()
    _is_there(folder, runs)  # before the folder is touched
    ended: dict[str, str | None] = {}
    children = _Children()
    with _locked(folder) as lock:
        again = _is_there(folder, runs)
        with atomic_write(folder / _PLAN) as stream:
            stream.write(json.dumps(runs, indent=2).encode() + b"\n")
        usable = usable_threads().count
        jobs = min(args.jobs or usable, len(runs))
        environment = {**os.environ, "FASTMLP_NUM_THREADS": str(max(1, usable // jobs))}
        many = "run" if len(runs) == 1 else "runs"
        print(f"{len(runs)} {many}, {jobs} at a time, in {folder}{', going on' if again else ''}", flush=True)

        def run_one(item: tuple[str, list[str]]) -> str | None:
            return children.run(_command(folder / item[0], item[1]), environment, lock.fileno())

        with children.ended_with_us(), ThreadPoolExecutor(jobs) as pool:
            try:
                for name, problem in zip(runs, pool.map(run_one, runs.items()), strict=True):
                    if children.ending:
                        break
                    out = str(folder / name)
                    ended[out] = problem
                    note = "" if problem is None else f": {problem}"
                    print(f"{'done  ' if problem is None else 'failed'} {out}{note}", flush=True)
            except BaseException:
                children.end(signal.SIGTERM)
                raise
    histories = _histories([out for out, problem in ended.items() if problem is None])
    if not histories and not children.ending:
        raise ModelFileError("No run of the sweep succeeded.")
    if histories:
        print()
        print_ranking(histories)
    if children.ending:
        print(f"\nstopped after {len(ended)} of {len(runs)} runs; the same command again goes on")
        return INTERRUPTED if children.ending == signal.SIGINT else 128 + children.ending
    return 0 if len(histories) == len(runs) else 1


def _histories(folders: list[str]) -> dict[str, History]:
    found = {}
    for out in folders:
        try:
            found[out] = history_of(Path(out))
        except ModelFileError as error:
            print(f"failed {out}: {error}", flush=True)
    return found


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


def _runs(axes: list[tuple[str, list[str]]], args: argparse.Namespace) -> dict[str, list[str]]:
    """The options of each run by its folder's name; all of them are such that train takes them."""
    parser = Parser(prog="fastmlp", allow_abbrev=False)
    commands = parser.add_subparsers()
    train.add_parser(commands)
    common, blank = vars(parser.parse_args(["train", *args.train])), vars(parser.parse_args(["train"]))
    trainer = commands.choices["train"]
    known = trainer.destinations
    varied: list[str] = []
    for name, _ in axes:
        option = known.get(f"--{name}", name)
        if option in varied:
            raise UsageError(f"--grid names {name} twice; give all its values at once.")
        if common.get(option) != blank.get(option):
            raise UsageError(f"--grid varies {name}, which the options after -- set too.")
        varied.append(option)
    names = [name for name, _ in axes]
    combinations = list(itertools.product(*(values for _, values in axes)))
    if args.random is not None and args.random < len(combinations):
        combinations = random.Random(args.seed).sample(combinations, args.random)
    runs: dict[str, list[str]] = {}
    for values in combinations:
        label = ",".join(f"{name}={value}" for name, value in zip(names, values, strict=True)).replace("/", "_")
        if len(label.encode()) > _LONGEST or label in runs:
            label = f"{label[: _LONGEST // 4]}-{hashlib.sha256(repr(values).encode()).hexdigest()[:8]}"
        runs[label] = list(args.train)
        for name, value, option in zip(names, values, varied, strict=True):
            runs[label] += _option(name, value, option, trainer)
        parser.parse_args(["train", *runs[label]])
    return runs


def _option(name: str, value: str, destination: str, trainer: Parser) -> list[str]:
    if destination not in trainer.switches:
        return [f"--{name}={value}"]
    if value not in ("true", "false"):
        raise UsageError(f"--grid has {value[:40]!r} for {name}; expected true or false.")
    return trainer.switch(name, value == "true")


def _is_there(folder: Path, runs: dict[str, list[str]]) -> bool:
    """Whether the folder holds this very sweep; False where it is free."""
    if not folder.exists():
        return False
    if not folder.is_dir():
        raise FileExistsError(f"{folder} is a file; give another --out.")
    there = {path.name for path in folder.iterdir()} - {_PLAN, _LOCK}
    if not there:
        return False
    try:
        known = json.loads((folder / _PLAN).read_bytes())
    except FileNotFoundError:
        raise FileExistsError(f"{folder} is not empty; give another --out.") from None
    except (ValueError, RecursionError):  # damaged: it goes by the names of the runs
        known = runs if there <= set(runs) else None
    if known != runs:
        raise FileExistsError(f"{folder} holds another sweep; give another --out.")
    return True


def _locked(folder: Path) -> IO[bytes]:
    """A file that a single sweep, with its runs, can hold at a time."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = (folder / _LOCK).open("wb")
    with contextlib.suppress(ImportError):  # Windows has none
        import fcntl

        for attempt in range(_PATIENCE + 1):  # the runs of one that was killed are ending
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:
                if attempt == _PATIENCE:
                    lock.close()
                    raise FileExistsError(f"Another sweep is at work in {folder}; give another --out.") from None
                time.sleep(1)
    return lock


def _command(out: Path, options: list[str]) -> list[str]:
    """What makes a run, or goes on with it; of one that has ended it changes nothing."""
    train_ = [sys.executable, "-c", _RUN, "train", "--quiet"]
    if (out / STATE).is_file():
        return [*train_, "--resume", str(out)]
    return [*train_, *options, "--out", str(out), *(["--force"] if out.exists() else [])]


# A run ends, as by Ctrl-C, when its standard input does: when the sweep closes it, or dies in any way.
# It sets the handler itself: a sweep in the background of a shell hands on a SIGINT that is ignored.
_RUN = """
import os, signal, sys, threading
signal.signal(signal.SIGINT, signal.default_int_handler)
def watch():
    os.read(0, 1)
    os.kill(os.getpid(), signal.SIGINT)
threading.Thread(target=watch, daemon=True).start()
from fastmlp.cli import main
sys.exit(main())
"""


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
        self._said: set[str] = set()

    def run(self, command: list[str], environment: dict[str, str], lock: int) -> str | None:
        """Wait for a process; None, or the last line of its errors."""
        with self._lock:
            if self.ending:
                return "not begun"
            # In a session of its own: Ctrl-C in the terminal comes from us, and once.
            child = subprocess.Popen(
                command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                text=True, errors="replace", start_new_session=True, pass_fds=(lock,) if os.name == "posix" else (),
            )  # fmt: skip
            self._running.append(child)
        assert child.stderr is not None
        with child.stderr:
            errors = child.stderr.read()
        child.wait()
        with self._lock:
            self._running.remove(child)
            _close(child)
            for line in errors.splitlines():  # of the same table all runs say the same
                if line.startswith(NOTE) and line not in self._said:
                    self._said.add(line)
                    print(line, file=sys.stderr, flush=True)
        return None if child.returncode == 0 else (errors.strip().splitlines() or ["no message"])[-1]

    @contextmanager
    def ended_with_us(self) -> Iterator[None]:
        """Pass Ctrl-C and SIGTERM on to the runs: as Ctrl-C, by which they save their states, and then as SIGTERM."""

        def pass_on(number: int, frame: FrameType | None) -> None:
            first, self.ending = self.ending is None, number
            # By another thread: this one may be holding the lock.
            threading.Thread(target=self.end, args=(number if first else signal.SIGTERM, first)).start()

        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            for number, handler in before.items():
                if handler != signal.SIG_IGN:
                    signal.signal(number, pass_on)
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def end(self, number: int, gently: bool = False) -> None:
        """Begin no other run, and end those under way; ``gently`` as Ctrl-C does."""
        with self._lock:
            self.ending = self.ending or number
            for child in self._running:
                if gently:
                    _close(child)
                else:
                    child.terminate()


def _close(child: subprocess.Popen[str]) -> None:
    assert child.stdin is not None
    with contextlib.suppress(BrokenPipeError):
        child.stdin.close()
