"""Training of the nets of an ensemble for tables: held-out rows, optimizer, schedule and early stopping of each."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .._common.arithmetic import ceil_div
from .._common.validation import Array
from ..callbacks.early_stopping import EarlyStopping
from ..losses import Loss
from ..modules import Module
from ..optim.adam import Adam
from ..training.fit_many import fit_many
from ..training.trainer import Trainer
from .presets import Preset
from .scoring import ScoreStopping

__all__ = ["OnlineFits", "fit_options", "held_out_parts", "make_trainer", "stop_at"]

_FEWEST_HELD_OUT = 2  # rows of a held-out part; with fewer, all rows are for training


def held_out_parts(
    groups: Array, n_nets: int, fraction: float, random_state: np.random.RandomState
) -> list[Array | None]:
    """Return the row numbers that each net holds out, or None where there are too few rows.

    Parameters
    ----------
    groups : ndarray of int, shape (N,)
        Number of each row; each part has the same share of the rows of each number.
    n_nets : int
    fraction : float
        Share of the rows of a part, rounded to 1/2, 1/3 and so on; 0 for none.
    random_state : RandomState
    """
    parts = round(1 / fraction) if fraction else 0
    if not parts or len(groups) < _FEWEST_HELD_OUT * parts:
        return [None] * n_nets
    found: list[Array | None] = []
    while len(found) < n_nets:
        # Rows in random order within their groups, dealt out to the parts in turns.
        order = random_state.permutation(len(groups))
        order = order[np.argsort(groups[order], kind="stable")]
        found += [np.sort(order[part::parts]) for part in random_state.permutation(parts)]
    return found[:n_nets]


def make_trainer(preset: Preset, model: Module, loss: Loss) -> Trainer:
    """Return the trainer of a net."""
    return Trainer(model, loss, Adam(preset.lr), l2=preset.alpha)


def _patience(preset: Preset, rows: int) -> int:
    """Return the epochs without a lower loss after which a net is complete."""
    return max(preset.patience, ceil_div(preset.updates, ceil_div(rows, min(preset.batch_size, rows))))


def fit_options(
    preset: Preset,
    rows: Array,
    held: Array | None,
    score: Callable[[Module], float] | None = None,
    callbacks: Sequence[Any] = (),
) -> dict[str, Any]:
    """Return a net's options of `fit_many`.

    Parameters
    ----------
    preset : Preset
    rows, held : ndarray of int
        Numbers of the training rows, and of the rows whose loss ends the fit; None for that of the training rows.
    score : callable, optional
        Score of a net, in place of the loss.
    callbacks : sequence of callbacks
        Called after early stopping.
    """
    size = min(preset.batch_size, len(rows))
    an_epoch = ceil_div(len(rows), size)
    patience = _patience(preset, len(rows))
    stopping = EarlyStopping(patience) if score is None else ScoreStopping(patience, score)
    options: dict[str, Any] = {
        "rows": rows,
        "batch_size": size,
        "epochs": max(preset.epochs, ceil_div(5 * preset.updates, an_epoch)),
        "callbacks": [stopping, *callbacks],
    }
    if held is not None:
        options["validation_rows"] = held
    return options


class OnlineFits:
    """Fits of one epoch each, of all nets, which go on from the weights and the optimizers of the last one.

    Parameters
    ----------
    trainers : list of Trainer
    seed : int or None
        Seed of the orders of the rows; None draws one.
    """

    def __init__(self, trainers: list[Trainer], seed: int | None) -> None:
        self._trainers, self._calls = trainers, 0
        self._seed = int(np.random.SeedSequence().generate_state(1)[0]) if seed is None else seed

    def fit(self, features: Array, targets: Array, weight: Array | None, batch_size: int, threads: int | None) -> None:
        """Train all nets for one epoch."""
        seeds = np.random.default_rng([self._seed, self._calls]).integers(2**31, size=len(self._trainers))
        each = [{"rng": seed} for seed in seeds.tolist()]
        fit_many(
            self._trainers, features, targets, each=each, sample_weight=weight, threads=threads, epochs=1,
            batch_size=min(batch_size, len(features)),
        )  # fmt: skip
        self._calls += 1


def stop_at(end: float) -> Callable[[Trainer, Any], None]:
    """Return a callback that ends a fit at a time of the monotonic clock."""

    def stop(trainer: Trainer, record: Any) -> None:
        if time.monotonic() >= end:
            trainer.stop()

    return stop
