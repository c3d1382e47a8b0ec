"""fit_many: fits of several trainers at once, one on each processor."""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from .._common.parallel import run_jobs
from .._common.random import as_seed
from .._common.threads import usable_threads
from .._common.validation import Array, as_integer
from ..callbacks.base import CallbackList, as_callbacks
from ..callbacks.history import History
from ..callbacks.progress import ProgressBar
from ..io.mapped_reads import GuardedReads
from ..io.row_paths import open_rows, open_rows_and_targets, open_validation
from .augmentation import as_list
from .batches import TrainingData, check_rows, require_weight
from .fit import Fit
from .trainer import Trainer

__all__ = ["fit_many"]

_OPTIONS = {
    name: parameter.default
    for name, parameter in inspect.signature(Trainer.fit).parameters.items()
    if parameter.kind is parameter.KEYWORD_ONLY and name not in ("sample_weight", "threads")
}
_ROWS = ("rows", "validation_rows")


def fit_many(
    trainers: Sequence[Trainer],
    X: Any,
    y: Any = None,
    *,
    each: Sequence[Mapping[str, Any]] | None = None,
    sample_weight: Any = None,
    threads: int | None = None,
    return_errors: bool = False,
    **options: Any,
) -> list[Any]:
    """Train several models at once, such as an ensemble, folds, seeds or learning rates.

    Each processor trains one model after the other, so that no thread waits for another one. A model gets the same
    bits as from its own `Trainer.fit`. The rows are checked once and are in memory once. If there are more processors
    than trainers, a fit may take several of them.

    The callbacks of different trainers are called in different threads at the same time. If a model is on the backend
    "cuda", all are trained one after the other.

    Parameters
    ----------
    trainers : sequence of Trainer
        Two of them must not share a model, a part of one, an optimizer, or a schedule with a state.
    X, y, sample_weight
        Rows for all trainers, see `Trainer.fit`.
    each : sequence of dict, optional
        For each trainer its own options of `Trainer.fit`, which override ``options``, and

        - ``rows``: numbers of its training rows, an array of integers in which a number may occur several times;
        - ``validation_rows``: numbers of its validation rows, instead of ``validation``.

        The rows are read from ``X``, ``y`` and ``sample_weight`` without a copy.
    threads : int, optional
        Number of threads of all fits together. Default: the processors that the process may use, see `Trainer.fit`.
    return_errors : bool
        Whether an error of a fit is returned instead of its history.
    **options
        Options of `Trainer.fit` for all trainers. A Generator as ``rng`` draws a seed for each trainer. Each callback
        that is not a plain function belongs to a single trainer, so it is given by ``each``.

    Returns
    -------
    list of History
        In the order of the trainers.

    Raises
    ------
    ValueError
        If an argument is out of range or does not fit the trainers, before the first step.
    TypeError
        If `Trainer.fit` has no such option.
    DivergenceError, MappedFileError, OSError
        The first error of a fit, in the order of the trainers, with the number of fits that failed. An error of one
        fit does not end the others: it is raised when they are complete, and `Trainer.history` has their evaluations.
    KeyboardInterrupt
        After Ctrl-C, when all fits have ended as `Trainer.fit` does. Trainers whose turn had not come are unchanged.

    Examples
    --------
    >>> import fastmlp as fm, numpy as np
    >>> X, y, X_test, y_test = fm.load("digits")
    >>> trainers = [fm.Trainer(fm.MLP(64, [16], 10, rng=k), fm.CrossEntropyLoss(), fm.Adam(0.01)) for k in range(4)]
    >>> histories = fm.fit_many(trainers, X / 16, y, epochs=2, each=[{"rng": k} for k in range(4)])
    >>> votes = np.mean([trainer.predict_proba(X_test / 16) for trainer in trainers], axis=0)
    >>> bool((votes.argmax(axis=1) == y_test).mean() > 0.85)
    True

    Five folds of the same rows:

    >>> folds = np.array_split(np.random.default_rng(0).permutation(len(y)), 5)
    >>> each = [{"rows": np.setdiff1d(np.arange(len(y)), fold), "validation_rows": fold} for fold in folds]
    >>> trainers = [fm.Trainer(fm.MLP(64, [16], 10, rng=0), fm.CrossEntropyLoss(), fm.Adam(0.01)) for _ in folds]
    >>> len(fm.fit_many(trainers, X / 16, y, each=each, epochs=2, rng=0))
    5
    """
    trainers = list(trainers)
    _require_separate(trainers)
    of_each = _merge_options(len(trainers), each, options)
    _require_own_callbacks(of_each)
    count = usable_threads().count if threads is None else as_integer(threads, "threads")
    if any(trainer.model.backend_name == "cuda" for trainer in trainers):
        count = 1
    X, y = open_rows_and_targets(X, y, "fit_many")
    given = [X, y, open_rows(sample_weight, "fit_many: sample_weight")]
    checks = _Checks()
    validations = [checks.open(own["validation"]) for own in of_each]
    with GuardedReads([*given, *checks.arrays()]) as reads:
        jobs: list[Callable[[], History]] = []
        for trainer, own, validation in zip(trainers, of_each, validations, strict=True):
            own = dict(own)
            rows, held = (own.pop(name) for name in _ROWS)
            del own["validation"]
            train = checks.check(trainer, given, "fit_many", rows)
            if held is not None:
                validation = given
            held_out = None
            if validation is not None:
                held_out = checks.check(trainer, validation, "validation", held, measured=True)
            if own["rng"] is not None:
                own["rng"] = as_seed(own["rng"])
            jobs.append(partial(trainer.fit_checked, train, held_out, reads, threads=None, **own))
            resume, _ = own.pop("resume"), own.pop("rng")
            if resume is None:  # raises the errors of the options
                Fit(trainer, train, held_out, saved_shuffle=None, reads=reads, **own)
        results = run_jobs(jobs, count)
        reads.release()  # each fit has looked for failed reads itself
    failed = [number for number, result in enumerate(results) if isinstance(result, Exception)]
    if failed and not return_errors:
        raise _numbered(results, failed)
    return results


def _merge_options(count: int, each: Any, options: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the options of each trainer, with defaults, and with lists for those that can be iterated once only."""
    if each is None:
        each = [{}] * count
    each = list(each)
    if len(each) != count:
        raise ValueError(f"each has {len(each)} entries; expected one for each of the {count} trainers.")
    merged = []
    for number, own in enumerate([options, *each]):
        where = f"each[{number - 1}]" if number else "fit_many"
        if not isinstance(own, Mapping):
            raise ValueError(f"{where} is {own!r}; expected a dict of options of Trainer.fit.")
        known = {**_OPTIONS, **(dict.fromkeys(_ROWS) if number else {})}
        wrong = [name for name in own if name not in known]
        if wrong:
            hint = {"threads": "; fit_many has it for all fits together", "rows": "; give it in each"}.get(wrong[0], "")
            kind = ValueError if number else TypeError
            raise kind(f"{where} got the option {wrong[0]!r}; expected some of {', '.join(known)}{hint}.")
        own = {
            **own,
            **({"callbacks": as_callbacks(own["callbacks"])} if "callbacks" in own else {}),
            **({"augment": as_list(own["augment"])} if "augment" in own else {}),
        }
        if number and own.get("validation_rows") is not None and own.get("validation") is not None:
            raise ValueError(f"{where} has both validation and validation_rows; expected one of them.")
        merged.append(own)
    return [{**_OPTIONS, **dict.fromkeys(_ROWS), **merged[0], **own} for own in merged[1:]]


def _require_separate(trainers: list[Trainer]) -> None:
    """Raise ValueError if two trainers change the same object."""
    owners: dict[int, int] = {}
    for number, trainer in enumerate(trainers):
        if not isinstance(trainer, Trainer):
            raise ValueError(f"trainers[{number}] is {trainer!r}; expected a Trainer.")
        parts: list[tuple[str, Any]] = [("trainer", trainer), ("optimizer", trainer.optimizer)]
        parts += [("model, or a part of it", module) for module in trainer.model.modules()]
        if trainer.optimizer.schedule.state_dict():
            parts.append(("schedule, which has a state", trainer.optimizer.schedule))
        for what, part in parts:
            owner = owners.setdefault(id(part), number)
            if owner != number:
                raise ValueError(
                    f"trainers[{owner}] and trainers[{number}] share the same {what}; expected one for each."
                )


def _require_own_callbacks(of_each: list[dict[str, Any]]) -> None:
    """Raise ValueError if two trainers share a callback with a state, or draw progress bars on the same stream."""
    owners: dict[int, int] = {}
    streams: dict[int, int] = {}
    for number, own in enumerate(of_each):
        CallbackList(own["callbacks"])
        for callback in own["callbacks"]:
            if not CallbackList.is_function(callback) and owners.setdefault(id(callback), number) != number:
                raise ValueError(
                    f"Trainers {owners[id(callback)]} and {number} share a {type(callback).__name__}, which keeps the "
                    "state of one fit; give each of them its own, by each=[{'callbacks': [...]}, ...]."
                )
            if isinstance(callback, ProgressBar):
                stream = callback.stream or sys.stderr
                if streams.setdefault(id(stream), number) != number:
                    raise ValueError(
                        "Two trainers have a ProgressBar on the same stream, where their lines would mix; expected one "
                        "ProgressBar, or other streams."
                    )


class _Checks:
    """Checked rows, which trainers with equal requirements share."""

    def __init__(self) -> None:
        self._opened: dict[tuple[int, ...], tuple[Any, list[Any]]] = {}  # with the objects that the key identifies
        self._checked: dict[Any, TrainingData] = {}

    def open(self, validation: Any) -> list[Any] | None:
        """Return [X, y, sample_weight] of the argument ``validation``; the same lists for the same objects."""
        if validation is None:
            return None
        parts = validation if isinstance(validation, (tuple, list)) else (validation,)
        key = tuple(map(id, parts))
        if key not in self._opened:
            self._opened[key] = parts, list(open_validation(validation) or ())
        return self._opened[key][1]

    def arrays(self) -> list[Any]:
        """Return all arrays of validation rows."""
        return [rows for _, opened in self._opened.values() for rows in opened]

    def check(
        self, trainer: Trainer, given: list[Any], where: str, rows: Any = None, *, measured: bool = False
    ) -> TrainingData:
        """Return checked rows, all of ``given`` or those of the numbers ``rows``."""
        model, loss = trainer.model, trainer.loss
        if loss.backend_name != model.backend_name:
            loss.to(model.backend_name)
        needs = json.dumps([model.in_width, model.out_width, str(model.dtype), loss.config()], default=repr)
        key = (id(given), model.backend_name, type(loss), needs, measured)
        if key not in self._checked:
            X, y, weight = given
            self._checked[key] = checked = check_rows(X, y, weight, model, loss, where, measured=measured)
            require_weight(checked, loss)
        checked = self._checked[key]
        if rows is None:
            return checked
        checked = checked.subset(_row_numbers(rows, len(checked.X), where))
        require_weight(checked, loss)
        return checked


def _row_numbers(rows: Any, count: int, where: str) -> Array:
    """Return row numbers as int64 (n,)."""
    name = "rows" if where == "fit_many" else "validation_rows"
    index = np.asarray(rows)
    if index.ndim != 1 or not index.size or index.dtype.kind not in "iu":
        hint = "; np.flatnonzero(mask) gives those of a mask" if index.dtype.kind == "b" else ""
        raise ValueError(
            f"{name} has shape {index.shape} and dtype {index.dtype}; expected the numbers of at least one row, "
            f"integers (n,){hint}."
        )
    low, high = int(index.min()), int(index.max())
    if low < 0 or high >= count:
        raise ValueError(f"{name} has the number {low if low < 0 else high}; expected numbers from 0 to {count - 1}.")
    return np.ascontiguousarray(index, np.int64)


def _numbered(results: list[Any], failed: list[int]) -> Exception:
    """Return the first error, with the number of its trainer and of all that failed in its message."""
    error: Exception = results[failed[0]]
    some = ", ".join(map(str, failed[:10])) + (", ..." if len(failed) > 10 else "")
    if len(error.args) == 1 and isinstance(error.args[0], str):
        text = error.args[0].rstrip(".")
        error.args = (
            f"trainers[{failed[0]}]: {text}. {len(failed)} of {len(results)} fits failed ({some}), the others are "
            "complete.",
        )
    return error
