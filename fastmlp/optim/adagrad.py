"""Adagrad."""

from __future__ import annotations

from typing import Any

import numpy as np

from .._common.validation import Array, as_number
from .base import Numbers, Optimizer
from .schedules import Schedule

__all__ = ["Adagrad"]


class Adagrad(Optimizer):
    """Adagrad: g += weight_decay p; s += g^2; p -= lr / (1 + (t - 1) lr_decay) g / (sqrt(s) + eps).

    Duchi et al., JMLR 12, 2011.

    Parameters
    ----------
    lr : float or Schedule
        Learning rate, at least 0.
    lr_decay, eps, initial_accumulator_value : float
        At least 0; ``initial_accumulator_value`` is s before the first step.
    weight_decay : float
        At least 0; adds ``weight_decay p`` to g.
    clip_norm, clip_value : float, optional
        Above 0; largest norm of all gradients together, and largest absolute value of an entry.
    param_groups : list of dict, optional
        Parameters with hyperparameters of their own, see `Optimizer.param_groups`.

    Raises
    ------
    ValueError
        If an argument is out of range.

    Examples
    --------
    >>> import numpy as np
    >>> import fastmlp as fm
    >>> trainer = fm.Trainer(fm.MLP(4, [8], 2, rng=0), fm.MSELoss(), fm.Adagrad(0.1))
    >>> x, y = np.ones((5, 4), np.float32), np.zeros((5, 2), np.float32)
    >>> losses = [trainer.step(x, y) for _ in range(20)]
    >>> losses[-1] < losses[0]
    True
    """

    kernel = "adagrad"
    usual_lr = 1e-2

    @classmethod
    def examples(cls) -> list[Optimizer]:
        """Return an instance with the defaults, and one with other values of all arguments."""
        return [cls(0.1), cls(0.1, 0.3, 1e-3, 0.5, 0.1)]

    def __init__(
        self,
        lr: float | Schedule = 1e-2,
        lr_decay: float = 0.0,
        eps: float = 1e-10,
        initial_accumulator_value: float = 0.0,
        weight_decay: float = 0.0,
        *,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        param_groups: Any = None,
    ) -> None:
        super().__init__(
            lr, weight_decay=weight_decay, clip_norm=clip_norm, clip_value=clip_value, param_groups=param_groups
        )
        self.lr_decay = as_number(lr_decay, "lr_decay", 0)
        self.eps = as_number(eps, "eps", 0)
        self.initial_accumulator_value = as_number(initial_accumulator_value, "initial_accumulator_value", 0)

    def numbers(self, rates: Array, step: int) -> Numbers:
        """Return lr / (1 + (t - 1) lr_decay), eps and weight_decay; see `Optimizer.numbers`."""
        before = step - 1 + np.arange(len(rates))
        return rates / (1 + before * self.lr_decay), self.eps, self.weight_decay

    def _first_state(self, kind: str) -> float:
        return self.initial_accumulator_value
