"""Learning-rate schedules: callables ``schedule(step) -> float``, with steps counted from 0.

Formulas are those of PyTorch, for schedules that PyTorch has. After its last step a schedule keeps its last value.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from .._common.validation import as_integer, as_number
from .schedule import Schedule

__all__ = [
    "Constant",
    "Cosine",
    "Exponential",
    "LinearWarmup",
    "OneCycle",
    "ReduceOnPlateau",
    "Schedule",
    "StepDecay",
    "as_schedule",
]


def as_schedule(lr: float | Schedule) -> Schedule:
    """Return a schedule unchanged; convert a number to a `Constant`."""
    return lr if isinstance(lr, Schedule) else Constant(lr)


def _rate(value: float, name: str = "lr") -> float:
    return as_number(value, name, 0)


class Constant(Schedule):
    """Constant learning rate lr.

    Parameters
    ----------
    lr : float
        At least 0.

    Examples
    --------
    >>> import fastmlp as fm
    >>> schedule = fm.Constant(0.1)
    >>> [round(schedule(step), 6) for step in (0, 100)]
    [0.1, 0.1]
    """

    def __init__(self, lr: float) -> None:
        self.lr = _rate(lr)

    def __call__(self, step: int) -> float:
        return self.lr


class StepDecay(Schedule):
    """Step decay: lr factor^floor(step / every).

    Parameters
    ----------
    lr : float
        First rate, at least 0.
    every : int
        Number of steps between two cuts.
    factor : float
        Above 0.

    Examples
    --------
    >>> import fastmlp as fm
    >>> schedule = fm.StepDecay(0.1, every=10)
    >>> [round(schedule(step), 6) for step in (0, 9, 10, 20)]
    [0.1, 0.1, 0.01, 0.001]
    """

    def __init__(self, lr: float, every: int, factor: float = 0.1) -> None:
        self.lr = _rate(lr)
        self.every = as_integer(every, "every")
        self.factor = as_number(factor, "factor", 0, open_low=True)

    def __call__(self, step: int) -> float:
        return self.lr * self.factor ** (step // self.every)


class Exponential(Schedule):
    """Exponential decay: lr decay^(step / every).

    Parameters
    ----------
    lr : float
        First rate, at least 0.
    decay : float
        Factor of the rate over ``every`` steps, above 0.
    every : int
        At least 1.

    Examples
    --------
    >>> import fastmlp as fm
    >>> schedule = fm.Exponential(0.1, decay=0.5, every=10)
    >>> [round(schedule(step), 6) for step in (0, 5, 10)]
    [0.1, 0.070711, 0.05]
    """

    def __init__(self, lr: float, decay: float, every: int = 1) -> None:
        self.lr = _rate(lr)
        self.decay = as_number(decay, "decay", 0, open_low=True)
        self.every = as_integer(every, "every")

    def __call__(self, step: int) -> float:
        return float(self.lr * self.decay ** (step / self.every))


class Cosine(Schedule):
    """Cosine annealing: final + (lr - final) (1 + cos(pi step / steps)) / 2 (Loshchilov and Hutter, arXiv:1608.03983).

    Parameters
    ----------
    lr : float
        First rate, at least 0.
    steps : int
        Number of steps from lr to final.
    final : float
        At least 0.

    Examples
    --------
    >>> import fastmlp as fm
    >>> schedule = fm.Cosine(0.1, steps=100)
    >>> [round(schedule(step), 6) for step in (0, 50, 100)]
    [0.1, 0.05, 0.0]
    """

    def __init__(self, lr: float, steps: int, final: float = 0.0) -> None:
        self.lr = _rate(lr)
        self.steps = as_integer(steps, "steps")
        self.final = _rate(final, "final")

    def __call__(self, step: int) -> float:
        return _anneal(self.lr, self.final, min(step / self.steps, 1.0))


class OneCycle(Schedule):
    """One-cycle schedule: from max_lr / div_factor up to max_lr, then down to 1 / final_div_factor of the first rate.

    Both parts follow cosines, and the rise takes ``pct_start`` of the steps (Smith and Topin, arXiv:1708.07120, as in
    PyTorch's OneCycleLR).

    Parameters
    ----------
    max_lr : float
        Peak rate, at least 0.
    steps : int
        Number of steps of the whole run.
    pct_start : float
        From 0 to 1.
    div_factor, final_div_factor : float
        Above 0.

    Examples
    --------
    >>> import fastmlp as fm
    >>> schedule = fm.OneCycle(0.1, steps=100)
    >>> [round(schedule(step), 6) for step in (0, 29, 99)]
    [0.004, 0.1, 0.0]
    """

    def __init__(
        self,
        max_lr: float,
        steps: int,
        pct_start: float = 0.3,
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
    ) -> None:
        self.max_lr = _rate(max_lr, "max_lr")
        self.steps = as_integer(steps, "steps")
        self.pct_start = as_number(pct_start, "pct_start", 0, 1)
        self.div_factor = as_number(div_factor, "div_factor", 0, open_low=True)
        self.final_div_factor = as_number(final_div_factor, "final_div_factor", 0, open_low=True)

    def __call__(self, step: int) -> float:
        first = self.max_lr / self.div_factor
        peak, end = self.pct_start * self.steps - 1, self.steps - 1
        if step <= peak:
            return _anneal(first, self.max_lr, step / peak if peak else 1.0)
        # If the rise takes less than a step, peak is negative.
        done = (min(step, end) - peak) / (end - peak) if end > peak else 1.0
        return _anneal(self.max_lr, first / self.final_div_factor, done)


class LinearWarmup(Schedule):
    """Linear warm-up: the first rate of ``schedule`` times start + (1 - start) step / steps, then the schedule.

    The schedule starts at its step 0 after the warm-up (Goyal et al., arXiv:1706.02677).

    Parameters
    ----------
    schedule : float or Schedule
        Schedule after the warm-up; a number stands for `Constant`.
    steps : int
        Number of steps of the warm-up.
    start : float
        From 0 to 1.

    Examples
    --------
    >>> import fastmlp as fm
    >>> schedule = fm.LinearWarmup(fm.Cosine(0.1, steps=90), steps=10)
    >>> [round(schedule(step), 6) for step in (0, 5, 10, 55)]
    [0.0, 0.05, 0.1, 0.05]
    """

    def __init__(self, schedule: float | Schedule, steps: int, start: float = 0.0) -> None:
        self.schedule = as_schedule(schedule)
        self.steps = as_integer(steps, "steps")
        self.start = as_number(start, "start", 0, 1)

    def __call__(self, step: int) -> float:
        if step >= self.steps:
            return self.schedule(step - self.steps)
        return self.schedule(0) * (self.start + (1 - self.start) * step / self.steps)

    def update(self, value: float) -> None:
        """Pass the loss on to the schedule."""
        self.schedule.update(value)

    def config(self) -> dict[str, Any]:
        """Return the arguments, with the schedule as its own config."""
        return {**super().config(), "schedule": self.schedule.config()}

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the schedule."""
        return self.schedule.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the state of the schedule."""
        self.schedule.load_state_dict(state)


class ReduceOnPlateau(Schedule):
    """Reduction of lr by ``factor`` when the loss has not improved for more than ``patience`` evaluations.

    An improvement is a loss below best (1 - threshold). For ``cooldown`` evaluations after a cut none is counted (as
    PyTorch's ReduceLROnPlateau with mode "min" and threshold_mode "rel"). `Trainer.fit` reports the validation loss, or
    the training loss without a validation set.

    Parameters
    ----------
    lr : float
        First rate, at least 0.
    factor : float
        From 0 to below 1.
    patience, cooldown : int
        Number of evaluations, at least 0.
    threshold, min_lr : float
        At least 0; ``min_lr`` is a lower bound of the rate.

    Examples
    --------
    >>> import fastmlp as fm
    >>> schedule = fm.ReduceOnPlateau(0.1, patience=1)
    >>> for loss in (1.0, 0.8, 0.8, 0.8):
    ...     schedule.update(loss)
    >>> round(schedule(step=400), 4)
    0.01
    """

    def __init__(
        self,
        lr: float,
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        cooldown: int = 0,
        min_lr: float = 0.0,
    ) -> None:
        self.lr = _rate(lr)
        self.factor = as_number(factor, "factor", 0, 1, open_high=True)
        self.patience = as_integer(patience, "patience", 0)
        self.threshold = as_number(threshold, "threshold", 0)
        self.cooldown = as_integer(cooldown, "cooldown", 0)
        self.min_lr = _rate(min_lr, "min_lr")
        self._current = self.lr
        self._best = math.inf
        self._bad = 0
        self._cooling = 0

    def __call__(self, step: int) -> float:
        return self._current

    def update(self, value: float) -> None:
        """Count an evaluation's loss, and cut the rate if the patience is exceeded."""
        if value < self._best * (1 - self.threshold):
            self._best, self._bad = float(value), 0
        else:
            self._bad += 1
        if self._cooling:
            self._cooling -= 1
            self._bad = 0
        if self._bad > self.patience:
            lower = max(self._current * self.factor, self.min_lr)
            if self._current - lower > 1e-8:  # PyTorch's eps, the smallest cut that is made
                self._current = lower
            self._cooling, self._bad = self.cooldown, 0

    def state_dict(self) -> dict[str, Any]:
        """Return current rate, best loss (None before the first evaluation), and both counters."""
        return {
            "current": self._current,
            "best": None if self._best == math.inf else self._best,
            "bad": self._bad,
            "cooling": self._cooling,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a result of `state_dict`."""
        super().load_state_dict(state)
        self._current = float(state["current"])
        self._best = math.inf if state["best"] is None else float(state["best"])
        self._bad, self._cooling = int(state["bad"]), int(state["cooling"])


def _anneal(start: float, end: float, done: float) -> float:
    return end + (start - end) / 2 * (1 + math.cos(math.pi * done))
