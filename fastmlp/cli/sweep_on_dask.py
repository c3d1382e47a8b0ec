"""``fastmlp sweep --dask`` and ``--halving``: runs as tasks on a Dask cluster, or in threads of this process."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import logging
import shutil
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import Any

from .._common.mapped import MappedFiles
from ..callbacks import Callback
from ..datasets import Dataset
from ..distributed.sweep_runs import Cancelled, Event, Files, Run, read_files
from ..distributed.sweeps import Runner, train_runs
from ..io.files import atomic_write
from . import train
from .data import data_options, load_data
from .options import NOTE, Parser, UsageError, at_least
from .runs import CURVES, STATE
from .signals import signals_to
from .train_tabular import takes_ensemble

__all__ = ["add_dask_options", "by_tasks", "train_by_tasks"]


def add_dask_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of successive halving and of Dask."""
    parser.add_argument(
        "--halving",
        type=at_least(2),
        metavar="F",
        help="successive halving: train all runs for a part of their steps, the best 1/F of them F times longer, and "
        "so on",
    )
    group = parser.add_argument_group(
        "Dask", "Runs as tasks of a Dask cluster, whose workers need no folder in common with\n  this process."
    )
    where = group.add_mutually_exclusive_group()
    where.add_argument("--dask", metavar="ADDRESS", help="scheduler, such as tcp://10.0.0.1:8786")
    where.add_argument("--dask-file", metavar="FILE", help="file of dask scheduler --scheduler-file")
    group.add_argument(
        "--tls",
        nargs=3,
        metavar=("CA", "CERT", "KEY"),
        help="certificate of the authority, own certificate and its key, for tls:// (default: Dask's configuration)",
    )
    group.add_argument(
        "--dask-data",
        choices=("send", "path"),
        help="send: this process reads the data and sends them to each worker once; path: each worker reads them by "
        "the same path (default: send)",
    )
    group.add_argument(
        "--retries",
        type=at_least(0),
        metavar="N",
        help="repetitions of a run after an error of its machine (default: 3)",
    )


def by_tasks(args: argparse.Namespace) -> bool:
    """Return whether the options ask for Dask or successive halving."""
    on_dask = args.dask is not None or args.dask_file is not None
    for option in ("tls", "dask_data", "retries"):
        if getattr(args, option) is not None and not on_dask:
            raise UsageError(f"--{option.replace('_', '-')} applies to --dask or --dask-file; give one of them.")
    return on_dask or args.halving is not None


def train_by_tasks(
    args: argparse.Namespace, folder: Path, runs: dict[str, list[str]], resumed: bool
) -> tuple[dict[str, str | None], int | None]:
    """Train the runs of a sweep.

    Parameters
    ----------
    args : Namespace
        Options of the command.
    folder : Path
        Folder for the run folders.
    runs : dict
        Options of fastmlp train by the names of the runs.
    resumed : bool
        Whether the sweep began before.

    Returns
    -------
    ended : dict
        None or the error of each run that has ended, by its folder.
    signal : int or None
        Signal that stopped the sweep.
    """
    tasks, data = _prepare(runs, args.dask_data == "path")
    found = {name: read_files(folder / name) for name in runs if (folder / name / STATE).is_file()}
    for files in found.values():
        files.pop(CURVES, None)
    reporter = _Reporter(folder, list(runs), found)
    try:
        with signals_to(_stop), contextlib.ExitStack() as stack:
            runner, where = _runner(args, data, len(runs), stack)
            noun = "run" if len(runs) == 1 else "runs"
            print(f"{len(runs)} {noun} {where}, in {folder}{', resumed' if resumed else ''}", flush=True)
            stack.enter_context(contextlib.closing(reporter))
            train_runs(runner, tasks, found, args.halving, reporter.on_event)
    except _Stopped as stop:
        return reporter.ended, stop.number
    return reporter.ended, None


def _runner(
    args: argparse.Namespace, data: dict[str, Any], count: int, stack: contextlib.ExitStack
) -> tuple[Runner, str]:
    """Return what trains the runs, entered in ``stack``, and its description."""
    if args.dask is None and args.dask_file is None:
        from ..distributed.sweep_threads import LocalRuns

        local = stack.enter_context(LocalRuns(data, args.jobs))
        return local, f"by halving, {min(local.jobs, count)} at a time"
    from ..distributed.dask_client import connect, unprotected, wait_for_workers
    from ..distributed.dask_runs import DaskRuns

    client = stack.enter_context(connect(args.dask, args.dask_file, args.tls))
    # This command reports a lost connection in one line, Dask's log as tracebacks.
    logging.getLogger("distributed.client").setLevel(logging.CRITICAL)
    wait_for_workers(client)
    warning = unprotected(client)
    if warning is not None:
        print(f"{NOTE}{warning}", file=sys.stderr, flush=True)
    threads = client.nthreads().values()
    workers = f"{len(threads)} Dask worker{'' if len(threads) == 1 else 's'} with {sum(threads)} threads"
    retries = 3 if args.retries is None else args.retries
    return stack.enter_context(DaskRuns(client, data, args.jobs, retries)), f"on {workers}"


def _prepare(runs: dict[str, list[str]], by_path: bool) -> tuple[list[Run], dict[str, Dataset | None]]:
    """Return the runs as tasks, and their data sets by key; None for those that the workers read."""
    parser = Parser(prog="fastmlp", allow_abbrev=False)
    commands = parser.add_subparsers()
    train.add_parser(commands)
    tasks: list[Run] = []
    data: dict[str, Dataset | None] = {}
    for name, options in runs.items():
        args = parser.parse_args(["train", *options])
        args.argv = ["train", *options]
        if args.config is not None:
            args = train.with_config(args)
        if args.tensorboard:
            raise UsageError("fastmlp train --tensorboard is for runs in processes of this machine; leave it out here.")
        if takes_ensemble(args):
            raise UsageError(
                f"{args.dataset} is trained as an ensemble; --dask and --halving need fastmlp train --plain (after --)."
            )
        source = data_options(args)
        key = json.dumps([source, args.dtype])
        if key not in data:
            data[key] = rows = None if by_path else load_data(source, args.dtype)
            if rows is not None and MappedFiles(tuple(rows)).nbytes:
                raise UsageError(
                    f"{source['dataset']} is mapped from files, too large to be sent; give --dask-data path."
                )
        plain = {option: value for option, value in vars(args).items() if option not in ("run", "parser", "config")}
        tasks.append(Run(name, _train, (plain, source), key))
    return tasks, data


_read = threading.Lock()


def _train(folder: Path, payload: tuple[Any, ...], data: Dataset | None, callbacks: list[Callback]) -> None:
    """Train or resume a run in a folder, as fastmlp train does."""
    options, source = payload
    parser = Parser(prog="fastmlp", allow_abbrev=False)
    train.add_parser(parser.add_subparsers())
    if data is None:
        with _read:  # it collects warnings of the whole process
            data = load_data(source, options["dtype"])
    if (folder / STATE).is_file():
        args = parser.parse_args(["train", "--quiet", "--resume", str(folder)])
        args.threads, args.save_minutes = options["threads"], options["save_minutes"]
    else:
        blank = vars(parser.parse_args(["train"]))
        fixed = {"plain": True, "out": str(folder), "force": True, "quiet": True}
        args = argparse.Namespace(**{**blank, **options, **fixed})
    # A picture takes longer than a small run.
    if train.run(args, train.Hooks(lambda *_: data, source, callbacks, curves=False)) != 0:
        raise Cancelled


class _Stopped(BaseException):
    """The sweep was stopped by a signal."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def _stop(number: int, frame: FrameType | None) -> None:
    raise _Stopped(number)


class _Reporter:
    """Write the files of the runs, print what happened and, on a terminal, draw a bar.

    Attributes
    ----------
    ended : dict
        None or the error of each run that has ended, by its folder.
    """

    def __init__(self, folder: Path, names: list[str], found: dict[str, Files]) -> None:
        self.ended: dict[str, str | None] = {}
        self._folder = folder
        self._parts = dict.fromkeys(names, 0.0)
        self._written = dict(found)
        self._bar: Any = None
        if sys.stderr is not None and sys.stderr.isatty():
            self._bar = importlib.import_module("tqdm").tqdm(
                total=len(names), unit="run", leave=False, ncols=shutil.get_terminal_size().columns,
                bar_format="{l_bar}{bar}| {elapsed}<{remaining}{postfix}",
            )  # fmt: skip

    def on_event(self, event: Event) -> None:
        """Handle an event of a run."""
        out = self._folder / event.name
        self._write(out, event)
        if event.record is not None and event.end:
            self._parts[event.name] = event.record["step"] / event.end
        if event.ended:
            self._parts[event.name] = 1.0
            self.ended[str(out)] = event.error
            word = "failed" if event.error else "halved" if event.stopped else "done"
            self._print(f"{word:6} {out}{f': {event.error}' if event.error else ''}")
        if self._bar is not None:
            self._bar.n = round(sum(self._parts.values()), 2)
            self._bar.refresh()

    def close(self) -> None:
        """Remove the bar."""
        if self._bar is not None:
            self._bar.close()

    def _print(self, line: str) -> None:
        if self._bar is None:
            print(line, flush=True)
        else:
            self._bar.write(line, file=sys.stdout)

    def _write(self, out: Path, event: Event) -> None:
        """Write the files that have changed, the state last: it is resumed with the others."""
        out.mkdir(exist_ok=True)
        if not event.files:
            return
        before = self._written.get(event.name, {})
        if event.files.get(STATE) != before.get(STATE):
            (out / CURVES).unlink(missing_ok=True)  # of fewer steps
        for name in sorted(event.files, key=lambda name: name == STATE):
            if event.files[name] != before.get(name):
                with atomic_write(out / name) as stream:
                    stream.write(event.files[name])
        self._written[event.name] = event.files
