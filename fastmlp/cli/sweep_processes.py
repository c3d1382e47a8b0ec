"""Processes that train the runs of ``fastmlp sweep``: one for all of them, or one for each."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from types import FrameType
from typing import Any

from .._common.threads import usable_threads
from ..modules.saving import is_ensemble
from .options import NOTE
from .runs import MODEL, STATE
from .signals import signals_to

__all__ = ["Children", "train_options"]

Runs = list[tuple[Path, list[str]]]


def train_options(out: Path, options: list[str]) -> list[str]:
    """Return the arguments that start or resume a run; resuming a complete run changes nothing."""
    # The model of an ensemble is saved when it is complete.
    if (out / STATE).is_file() or ((out / MODEL).is_file() and is_ensemble(out)):
        return ["train", "--quiet", "--resume", str(out)]
    return ["train", "--quiet", *options, "--out", str(out), *(["--force"] if out.exists() else [])]


# A run stops, as after Ctrl-C, at the end of its standard input: when the sweep closes it or dies. It sets its own
# SIGINT handler, as the runs of a sweep in the background of a shell inherit an ignored SIGINT.
_START = """
import os, signal, sys, threading
signal.signal(signal.SIGINT, signal.default_int_handler)
{before}
def watch():
    os.read(0, 1)
    os.kill(os.getpid(), signal.SIGINT)
threading.Thread(target=watch, daemon=True).start()
{main}
"""
_ONE = _START.format(before="", main="from fastmlp.cli import main\nsys.exit(main())")
_ALL = _START.format(
    before="plan = os.fdopen(0, 'rb', 0, closefd=False).readline()",
    main="from fastmlp.cli.sweep_group import main\nsys.exit(main(plan))",
)


class Children:
    """Processes of the runs, which end with this process.

    Attributes
    ----------
    ending : int or None
        Signal that stops the sweep.
    """

    def __init__(self) -> None:
        self.ending: int | None = None
        self._lock = threading.Lock()
        self._running: list[subprocess.Popen[str]] = []
        self._printed: set[str] = set()

    def train_apart(self, runs: Runs, jobs: int, lock: int) -> Generator[str | None, None, None]:
        """Train each run in a process of its own, and give the problem of each: None, or a message.

        Parameters
        ----------
        runs : list of (Path, list of str)
            Folder and options of each run.
        jobs : int
            Number of runs at a time.
        lock : int
            File descriptor that the processes keep open.
        """
        environment = {**os.environ, "FASTMLP_NUM_THREADS": str(max(1, usable_threads().count // jobs))}

        def train(run: tuple[Path, list[str]]) -> str | None:
            child = self._start([_ONE, *train_options(*run)], lock, env=environment, stdout=subprocess.DEVNULL)
            if child is None:
                return "not started"
            last = self._read_errors(child)
            return None if self._wait(child) == 0 else last or "no message"

        with ThreadPoolExecutor(jobs) as pool:
            try:
                yield from pool.map(train, runs)
            except BaseException:  # also where the generator is closed
                self.end(signal.SIGTERM, gently=self.ending is not None)
                raise

    def train_together(self, runs: Runs, jobs: int, lock: int) -> Generator[str | None, None, None]:
        """Train all runs in the threads of one process, where the same data are in memory once; see `train_apart`."""
        child = self._start([_ALL], lock, stdout=subprocess.PIPE)
        if child is None:
            yield from ["not started"] * len(runs)
            return
        assert child.stdin is not None and child.stdout is not None
        plan = {"jobs": jobs, "runs": [(str(out), options) for out, options in runs]}
        problems: dict[int, str | None] = {}
        told = 0
        with ThreadPoolExecutor(1) as pool:
            errors = pool.submit(self._read_errors, child)
            try:
                with contextlib.suppress(BrokenPipeError, ValueError):  # the process has failed, or the sweep is ending
                    print(json.dumps(plan), file=child.stdin, flush=True)
                for line in child.stdout:
                    number, problem = json.loads(line)
                    problems[number] = problem
                    while told in problems:
                        yield problems[told]
                        told += 1
            except BaseException:
                self.end(signal.SIGTERM, gently=self.ending is not None)
                raise
            finally:
                for _ in child.stdout:
                    pass
                code = self._wait(child)
        last = errors.result() or f"the process of the runs ended with exit code {code}"
        yield from (problems.get(number, last) for number in range(told, len(runs)))

    def _start(self, arguments: list[str], lock: int, **options: Any) -> subprocess.Popen[str] | None:
        """Start Python with these arguments after -c, unless the sweep is ending."""
        with self._lock:
            if self.ending:
                return None
            # In a new session, so that Ctrl-C in the terminal reaches only this process, which forwards it once.
            child = subprocess.Popen(
                [sys.executable, "-c", *arguments], stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                errors="replace", start_new_session=True, pass_fds=(lock,) if os.name == "posix" else (), **options,
            )  # fmt: skip
            self._running.append(child)
            return child

    def _wait(self, child: subprocess.Popen[str]) -> int:
        """Wait for the end of a process, and return its exit code."""
        code = child.wait()
        with self._lock:
            self._running.remove(child)
            _close(child)
        if child.stdout is not None:
            child.stdout.close()
        return code

    def _read_errors(self, child: subprocess.Popen[str]) -> str:
        """Read the errors of a process to their end, print notes that are new, and return the last line."""
        assert child.stderr is not None
        last = ""
        with child.stderr:
            for line in child.stderr:
                last = line.strip() or last
                with self._lock:
                    if line.startswith(NOTE) and line not in self._printed:  # several runs print the same notes
                        self._printed.add(line)
                        print(line, end="", file=sys.stderr, flush=True)
        return last

    def forward_signals(self) -> AbstractContextManager[None]:
        """Forward Ctrl-C and SIGTERM to the runs: first as Ctrl-C, so that they save their states, later as SIGTERM."""

        def forward(number: int, frame: FrameType | None) -> None:
            first, self.ending = self.ending is None, number
            # In another thread, as this one may hold the lock.
            threading.Thread(target=self.end, args=(number if first else signal.SIGTERM, first)).start()

        return signals_to(forward)

    def end(self, number: int, gently: bool = False) -> None:
        """Start no other run, and end the running ones; ``gently`` like Ctrl-C."""
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
