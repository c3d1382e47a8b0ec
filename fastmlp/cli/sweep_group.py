"""Process that trains the runs of ``fastmlp sweep`` in threads, on data sets that are in memory once."""

from __future__ import annotations

import contextlib
import json
import os
import threading
import traceback
import warnings
from collections import OrderedDict
from functools import partial
from pathlib import Path
from typing import Any, TextIO

from .._common.parallel import run_jobs
from .._common.threads import usable_threads
from ..datasets import Dataset
from . import ERROR, EXPECTED, describe, print_notes, train
from .data import load_data
from .options import INTERRUPTED, Parser
from .sweep_processes import train_options

__all__ = ["main"]


def main(plan: bytes) -> int:
    """Train the runs of a plan, and write a line of JSON to standard output at the end of each.

    Parameters
    ----------
    plan : bytes
        JSON of ``jobs``, the number of runs at a time, and ``runs``: [folder, options] of each.

    Returns
    -------
    int
        Exit code.
    """
    content = json.loads(plan)
    try:
        # Nothing but the lines of `train` may reach the standard output.
        with (
            os.fdopen(os.dup(1), "w") as out,
            open(os.devnull, "w") as nothing,
            contextlib.redirect_stdout(nothing),
            warnings.catch_warnings(),
        ):
            warnings.showwarning = print_notes(warnings.showwarning)
            group = _Group(content["jobs"], out)
            jobs = [partial(group.train, number, *run) for number, run in enumerate(content["runs"])]
            results = run_jobs(jobs, max(content["jobs"], usable_threads().count), at_once=content["jobs"])
    except KeyboardInterrupt:
        return INTERRUPTED
    return 0 if not any(isinstance(result, BaseException) for result in results) else 1


class _Group:
    """Runs in one process.

    Parameters
    ----------
    jobs : int
        Number of runs at a time.
    out : TextIO
        Receives the lines of `train`.
    """

    def __init__(self, jobs: int, out: TextIO) -> None:
        self._lock, self._kept, self._out = threading.Lock(), jobs + 1, out
        self._data: OrderedDict[str, Dataset] = OrderedDict()

    def train(self, number: int, folder: str, options: list[str]) -> None:
        """Train a run, and write [number, message] with the message of an error or None."""
        message = None
        try:
            parser = Parser(prog="fastmlp", allow_abbrev=False)
            train.add_parser(parser.add_subparsers())
            arguments = train_options(Path(folder), options)
            args = parser.parse_args(arguments)
            args.argv = arguments
            if train.run(args, train.Hooks(self._load)) == INTERRUPTED:
                raise KeyboardInterrupt  # ends the other runs too
        except EXPECTED as error:
            message = ERROR + describe(error)
        except Exception as error:
            message = traceback.format_exception_only(error)[-1].strip()
        with self._lock:
            print(json.dumps([number, message]), file=self._out, flush=True)

    def _load(self, source: dict[str, Any], dtype: str) -> Dataset:
        """Return a data set, one of those that were used last if possible."""
        key = json.dumps([source, dtype])
        with self._lock:
            if key not in self._data:
                self._data[key] = load_data(source, dtype)
            self._data.move_to_end(key)
            while len(self._data) > self._kept:
                self._data.popitem(last=False)
            return self._data[key]
