"""``fastmlp sweep``: training over a grid of options, or a random part of it, and a ranking of the runs."""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import itertools
import json
import random
import signal
import time
from pathlib import Path
from typing import Any, BinaryIO

from .._common.errors import BackendError, ModelFileError
from .._common.threads import usable_threads
from .._kernels import get_backend
from ..callbacks.history import History
from ..io.files import atomic_write, try_lock
from . import train
from .compare import history_of, print_ranking
from .options import INTERRUPTED, Parser, UsageError, at_least
from .sweep_on_dask import add_dask_options, by_tasks, train_by_tasks
from .sweep_processes import Children

__all__ = ["add_parser"]

_PLAN, _LOCK = "sweep.json", ".lock"
_LONGEST = 200  # bytes of the name of a folder
_PATIENCE = 10  # seconds to wait for the runs of a killed sweep to end


def add_parser(commands: Any) -> None:
    """Add the command's parser."""
    parser = commands.add_parser(
        "sweep",
        help="train over a grid of options and rank the runs",
        description="Train once for each combination of options, several runs at a time, and rank\n"
        "the runs by test loss. Repeat the command to resume an interrupted sweep.",
        epilog="Values are separated by commas, or by colons if they contain commas. The values\n"
        "of an option without a value, such as --layer-norm, are true and false.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.set_defaults(run=run)
    parser.hint = "options of fastmlp train come after --"
    parser.add_argument(
        "--grid",
        action="append",
        required=True,
        metavar="OPTION=V,V,...",
        help="option of fastmlp train, and its values",
    )
    parser.add_argument(
        "--random", type=at_least(1), metavar="N", help="train N combinations, drawn at random (default: all)"
    )
    parser.add_argument("--seed", type=at_least(0), default=0, metavar="N", help="seed of --random (default: 0)")
    parser.add_argument(
        "--jobs",
        type=at_least(1),
        metavar="N",
        help="runs at a time (default: one per core, with Dask one per thread of a worker)",
    )
    parser.add_argument("--out", default="sweep", metavar="DIR", help="folder for the run folders (default: sweep)")
    add_dask_options(parser)
    parser.add_argument(
        "train", nargs="*", metavar="-- OPTION", help="options of all runs, after --; see fastmlp train --help"
    )


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    runs = _runs([_axis(text) for text in args.grid], args)
    folder = Path(args.out).expanduser()
    _holds_sweep(folder, runs)  # check the folder before it is locked
    tasks = by_tasks(args)
    ended: dict[str, str | None] = {}
    children = Children()
    with _locked(folder) as lock:
        resumed = _holds_sweep(folder, runs)
        with atomic_write(folder / _PLAN) as stream:
            stream.write(json.dumps(runs, indent=2).encode() + b"\n")
        if tasks:
            return _summarize(*train_by_tasks(args, folder, runs, resumed), len(runs))
        jobs = min(args.jobs or usable_threads().count, len(runs))
        noun = "run" if len(runs) == 1 else "runs"
        print(f"{len(runs)} {noun}, {jobs} at a time, in {folder}{', resumed' if resumed else ''}", flush=True)
        places = [(folder / name, options) for name, options in runs.items()]
        train_all = children.train_together if _may_share_process(args) else children.train_apart
        with children.forward_signals(), contextlib.closing(train_all(places, jobs, lock.fileno())) as problems:
            for name, problem in zip(runs, problems, strict=True):
                if children.ending:
                    break
                out = str(folder / name)
                ended[out] = problem
                note = "" if problem is None else f": {problem}"
                print(f"{'done  ' if problem is None else 'failed'} {out}{note}", flush=True)
    return _summarize(ended, children.ending, len(runs))


def _summarize(ended: dict[str, str | None], ending: int | None, count: int) -> int:
    """Print the ranking of the runs that have ended; return the exit code.

    Parameters
    ----------
    ended : dict
        None or the error of each run that has ended, by its folder.
    ending : int or None
        Signal that stopped the sweep.
    count : int
        Number of runs of the sweep.
    """
    histories = _histories([out for out, problem in ended.items() if problem is None])
    if not histories and not ending:
        raise ModelFileError("No run of the sweep succeeded; see the messages above.")
    if histories:
        print()
        print_ranking(histories)
    if ending:
        print(f"\nstopped after {len(ended)} of {count} runs; repeat the command to resume")
        return INTERRUPTED if ending == signal.SIGINT else 128 + ending
    return 0 if len(histories) == count else 1


def _may_share_process(args: argparse.Namespace) -> bool:
    """Return whether all runs can train in one process: their steps leave the GIL to others, and none has a GPU."""
    parser = Parser(prog="fastmlp", allow_abbrev=False)
    train.add_parser(parser.add_subparsers())
    common = parser.parse_args(["train", *args.train])
    if common.config is not None or any(_axis(text)[0] == "backend" for text in args.grid):
        return False
    try:
        return bool(get_backend(common.backend).name == "numba")
    except BackendError:  # each run reports it
        return False


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
        raise UsageError(f"--grid has {text[:40]!r}; expected an option and its values, for example lr=0.1,0.01.")
    if name in ("out", "resume", "config", "force", "quiet"):
        raise UsageError(f"--grid cannot vary {name}; expected an option of the model, the data or the training.")
    if len(set(found)) < len(found):
        raise UsageError(f"--grid has the same value of {name} twice.")
    return name, found


def _runs(axes: list[tuple[str, list[str]]], args: argparse.Namespace) -> dict[str, list[str]]:
    """Return {name of the folder: options} of the runs; the options have been checked by the parser of train."""
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
            raise UsageError(f"--grid names {name} twice; give all its values in one --grid.")
        if common.get(option) != blank.get(option):
            raise UsageError(f"--grid varies {name}, which is also set by the options after --.")
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


def _holds_sweep(folder: Path, runs: dict[str, list[str]]) -> bool:
    """Return whether the folder holds this sweep; False if it is empty. Raise an error for other content."""
    if not folder.exists():
        return False
    if not folder.is_dir():
        raise FileExistsError(f"{folder} is a file; give another --out.")
    names = {path.name for path in folder.iterdir()} - {_PLAN, _LOCK}
    if not names:
        return False
    try:
        known = json.loads((folder / _PLAN).read_bytes())
    except FileNotFoundError:
        raise FileExistsError(f"{folder} is not empty; give another --out.") from None
    except (ValueError, RecursionError):  # damaged: compare the names of the runs instead
        known = runs if names <= set(runs) else None
    if known != runs:
        raise FileExistsError(f"{folder} holds another sweep; give another --out.")
    return True


def _locked(folder: Path) -> BinaryIO:
    """Lock the folder for this sweep and its runs; return the locked file."""
    folder.mkdir(parents=True, exist_ok=True)
    for attempt in range(_PATIENCE + 1):  # the runs of a killed sweep may still be ending
        lock = try_lock(folder / _LOCK)
        if lock is not None:
            return lock
        if attempt < _PATIENCE:
            time.sleep(1)
    raise FileExistsError(f"{folder} is in use by another sweep; give another --out.")
