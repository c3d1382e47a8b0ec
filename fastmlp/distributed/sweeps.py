"""Sweeps: many fits with options of a grid, on a Dask cluster or in threads of this process."""

from __future__ import annotations

import itertools
import json
import math
import os
import random as random_numbers
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

from .._common.arithmetic import ceil_div
from .._common.errors import warn_user
from .._common.validation import as_integer
from ..callbacks import Callback, History, MetricsFile, SaveModel
from ..callbacks.base import as_callbacks
from ..callbacks.history import Record
from ..callbacks.saving import SaveState
from ..io.training_state import STATE
from ..modules import Module
from ..modules.saving import MODEL, load_model
from .sweep_runs import Event, Files, Run
from .sweep_threads import LocalRuns

__all__ = ["Runner", "SweepRun", "rungs", "sweep", "train_runs"]

_METRICS = "metrics.jsonl"


class Runner(Protocol):
    """Trains runs and yields their events: `DaskRuns` or `LocalRuns`."""

    def run(self, runs: Sequence[Run], files: Mapping[str, Files]) -> Iterator[Event]:
        """Train runs from the files that exist of them, and yield what happens until the last one has ended."""


def rungs(count: int, factor: int | None) -> list[tuple[int, int]]:
    """Return the rungs of successive halving: (d, number of runs), which are trained for 1 / d of their steps.

    Each rung has ``factor`` times the runs of the next one, for 1 / ``factor`` of the steps (Jamieson and Talwalkar,
    arXiv:1502.07943).

    Examples
    --------
    >>> rungs(9, 3)
    [(9, 9), (3, 3), (1, 1)]
    >>> rungs(9, None)
    [(1, 9)]
    """
    levels = 0
    while factor is not None and factor ** (levels + 1) <= count:
        levels += 1
    base = factor or 1
    return [(base ** (levels - level), ceil_div(count, base**level)) for level in range(levels + 1)]


def train_runs(
    runner: Runner,
    runs: Sequence[Run],
    files: Mapping[str, Files],
    factor: int | None,
    on_event: Callable[[Event], None],
) -> None:
    """Train the runs of a sweep, with successive halving if ``factor`` is not None.

    The choice of the runs that go on depends on their metrics at each rung alone, not on the order in which they end.

    Parameters
    ----------
    runner : Runner
    runs : sequence of Run
    files : dict
        Files that exist of runs by name.
    factor : int or None
        See `rungs`.
    on_event : callable
        Called with each `Event`; ``ended`` is True once for each run.
    """
    going_on, plan = list(runs), rungs(len(runs), factor)
    known = dict(files)
    for level, (divisor, _) in enumerate(plan):
        last = level == len(plan) - 1
        scores: dict[str, float] = {}
        for event in runner.run([replace(run, divisor=divisor) for run in going_on], known):
            if event.files:
                known[event.name] = event.files
            if event.ended and event.error is None:
                scores[event.name] = _score(event.files, divisor, event.end)
            on_event(replace(event, ended=event.ended and (last or event.error is not None)))
        if last:
            return
        chosen = sorted(scores, key=lambda name: (scores[name], name))[: plan[level + 1][1]]
        for name in scores:
            if name not in chosen:
                on_event(Event(name, None, 0, known[name], ended=True, stopped=True))
        going_on = [run for run in going_on if run.name in chosen]


def _records(files: Files) -> list[dict[str, Any]]:
    return [json.loads(line) for line in files.get(_METRICS, b"").splitlines()]


def _score(files: Files, divisor: int, end: int) -> float:
    """Return the best loss of a run up to its first evaluation after 1 / ``divisor`` of its steps."""
    best = math.inf
    for record in _records(files):
        loss = record["train_loss"] if record["val_loss"] is None else record["val_loss"]
        best = min(best, math.inf if math.isnan(loss) else loss)
        if record["step"] * divisor >= end:
            break
    return best


@dataclass
class SweepRun:
    """Run of a `sweep`.

    Attributes
    ----------
    params : dict
        Its values from the grid.
    history : History
        Its evaluations.
    model : Module or None
        The trained model; None if the run failed.
    error : str or None
        Reason why the run failed.
    stopped : bool
        Whether successive halving stopped the run early.

    Examples
    --------
    >>> import fastmlp as fm
    >>> from fastmlp.distributed import SweepRun
    >>> SweepRun({"lr": 0.1}, fm.History(), None, "the loss is NaN").best_loss
    inf
    """

    params: dict[str, Any]
    history: History
    model: Module | None
    error: str | None = None
    stopped: bool = False

    @property
    def best_loss(self) -> float:
        """Smallest validation loss, or training loss without validation; infinite before the first evaluation."""
        return min(
            (r["train_loss"] if r["val_loss"] is None else r["val_loss"] for r in self.history), default=math.inf
        )


def sweep(
    make: Callable[..., Any],
    grid: Mapping[str, Sequence[Any]],
    X: Any,
    y: Any = None,
    *,
    validation: Sequence[Any] | str | os.PathLike[str] | None = None,
    client: Any = None,
    random: int | None = None,
    seed: int = 0,
    halving: int | None = None,
    jobs: int | None = None,
    retries: int = 3,
    on_evaluation: Callable[[dict[str, Any], Record], None] | None = None,
    on_end: Callable[[SweepRun], None] | None = None,
    **fit: Any,
) -> list[SweepRun]:
    """Train once for each combination of values, on a Dask cluster or in threads of this process.

    The state of a run comes back at each evaluation. If its worker dies, the run goes on from that state on another
    one, with the same bits.

    Parameters
    ----------
    make : callable
        Called as ``make(**params)`` where the run is trained; returns a `Trainer`, or a `Trainer` and a dict of options
        of `Trainer.fit` for this run, such as ``callbacks`` or ``batch_size``. With a client, Dask sends it by
        cloudpickle.
    grid : dict
        Values by the names of the arguments of ``make``.
    X, y, validation
        As for `Trainer.fit`. Arrays are sent to each worker once; files are read by their paths on each worker.
    client : distributed.Client, optional
        Client of a Dask cluster (``pip install 'fastmlp[dask]'``) whose workers have this version of fastmlp. None
        trains in threads of this process.
    random : int, optional
        Train this number of combinations only, drawn at random.
    seed : int
        Seed of ``random``.
    halving : int, optional
        Factor of successive halving, at least 2: all runs are trained for a part of their steps, the best
        1 / ``halving`` of them go on from their states for ``halving`` times the steps, and so on. Runs are compared by
        their best loss so far.
    jobs : int, optional
        Number of runs at a time. Default: the number of threads of all workers, or of usable processors.
    retries : int
        Number of times that a run is repeated after an error of its machine.
    on_evaluation : callable, optional
        Called as ``on_evaluation(params, record)`` in this thread at each evaluation of a run, see `History`.
    on_end : callable, optional
        Called as ``on_end(run)`` in this thread when a run has ended, failed or was stopped by halving.
    **fit
        Options of `Trainer.fit` for all runs.

    Returns
    -------
    list of SweepRun
        The runs in the order of the grid, also those that failed.

    Raises
    ------
    ValueError
        If an argument is out of range.

    Examples
    --------
    >>> import fastmlp as fm
    >>> from fastmlp.distributed import sweep
    >>> X, y, X_test, y_test = fm.load("digits")
    >>> def make(lr, width):
    ...     model = fm.MLP(64, [width], 10, normalize=fm.Normalize.fit(X), rng=0)
    ...     return fm.Trainer(model, fm.CrossEntropyLoss(), fm.Adam(lr))
    >>> grid = {"lr": [1e-3, 1e-2], "width": [16, 32]}
    >>> runs = sweep(make, grid, X, y, validation=(X_test, y_test), epochs=3, rng=0)
    >>> min(runs, key=lambda run: run.best_loss).params["lr"]
    0.01
    """
    if not grid or not all(len(values) for values in grid.values()):
        raise ValueError("sweep: grid has no values; expected a dict of lists by the arguments of make.")
    for option in ("callbacks", "resume", "threads"):
        if option in fit:
            hint = "which make returns with the trainer" if option == "callbacks" else "which each run gets"
            raise ValueError(f"sweep got {option}, {hint}; expected other options of Trainer.fit.")
    params = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
    if random is not None and as_integer(random, "random") < len(params):
        params = random_numbers.Random(seed).sample(params, random)
    factor = None if halving is None else as_integer(halving, "halving", 2)
    if jobs is not None:
        as_integer(jobs, "jobs")
    runs = [Run(f"run-{number}", _train, (make, values, fit), "rows") for number, values in enumerate(params)]
    by_name = {run.name: values for run, values in zip(runs, params, strict=True)}
    results: dict[str, SweepRun] = {}

    def notify(event: Event) -> None:
        values = by_name[event.name]
        if event.record is not None and on_evaluation is not None:
            on_evaluation(values, event.record)
        if event.ended:
            results[event.name] = _result(values, event)
            if on_end is not None:
                on_end(results[event.name])

    data = {"rows": (_absolute(X), _absolute(y), _absolute(validation))}
    with _runner(client, data, jobs, as_integer(retries, "retries", 0)) as runner:
        train_runs(runner, runs, {}, factor, notify)
    return [results[run.name] for run in runs]


def _absolute(rows: Any) -> Any:
    """Return an absolute path for a path; workers have other folders."""
    return os.path.abspath(rows) if isinstance(rows, (str, os.PathLike)) else rows


def _runner(client: Any, data: dict[str, Any], jobs: int | None, retries: int) -> AbstractContextManager[Runner]:
    if client is None:
        return LocalRuns(data, jobs)
    from .dask_client import unprotected, wait_for_workers
    from .dask_runs import DaskRuns

    wait_for_workers(client)
    warning = unprotected(client)
    if warning is not None:
        warn_user(warning, UserWarning)
    return DaskRuns(client, data, jobs, retries)


def _train(folder: Path, payload: tuple[Any, ...], data: tuple[Any, ...], callbacks: list[Callback]) -> None:
    """Train or resume a run of `sweep` in a folder."""
    make, params, fit = payload
    X, y, validation = data
    made = make(**params)
    trainer, own = made if isinstance(made, tuple) else (made, {})
    options = {**fit, **own}
    resumed = (folder / STATE).is_file()
    files = [
        MetricsFile(folder / _METRICS),
        SaveState(folder / STATE, every_minutes=5),
        SaveModel(folder / MODEL, at_begin=not resumed),
    ]
    trainer.fit(
        X,
        y,
        validation=validation,
        callbacks=[*as_callbacks(options.pop("callbacks", ())), *files, *callbacks],
        resume=folder / STATE if resumed else None,
        **options,
    )


def _result(params: dict[str, Any], end: Event) -> SweepRun:
    """Return the result of a run from its last event."""
    history, model = History(), None
    for record in _records(end.files):
        history.append(record)
    if end.error is None and MODEL in end.files:
        with TemporaryDirectory() as folder:
            path = Path(folder, MODEL)
            path.write_bytes(end.files[MODEL])
            model = load_model(path)
    return SweepRun(params, history, model, end.error, end.stopped)
