"""Lion."""

from __future__ import annotations

from typing import Any

from .._common.validation import Array
from .base import Numbers, Optimizer, as_betas
from .schedules import Schedule

__all__ = ["Lion"]


class Lion(Optimizer):
    """Lion: c = b1 m + (1 - b1) g; p -= lr (sign(c) + weight_decay p); m = b2 m + (1 - b2) g.

    Chen et al., arXiv:2302.06675. Every element moves by the learning rate, whatever the size of its gradient. Suitable
    rates are therefore three to ten times smaller than for Adam, and weight decays larger by the same factor.

    Parameters
    ----------
    lr : float or Schedule
        Learning rate, at least 0.
    betas : pair of float
        b1 and b2, from 0 to below 1.
    weight_decay : float
        At least 0; decoupled: the decay shrinks p directly instead of being added to g.
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
    >>> trainer = fm.Trainer(fm.MLP(4, [8], 2, rng=0), fm.MSELoss(), fm.Lion(0.001))
    >>> x, y = np.ones((5, 4), np.float32), np.zeros((5, 2), np.float32)
    >>> losses = [trainer.step(x, y) for _ in range(20)]
    >>> losses[-1] < losses[0]
    True
    """

    kernel = "lion"
    usual_lr = 1e-4

    @classmethod
    def examples(cls) -> list[Optimizer]:
        """Return an instance with the defaults, and one with other values of all arguments."""
        return [cls(0.001), cls(0.01, (0.8, 0.7), 0.1)]

    def __init__(
        self,
        lr: float | Schedule = 1e-4,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
        *,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        param_groups: Any = None,
    ) -> None:
        super().__init__(
            lr, weight_decay=weight_decay, clip_norm=clip_norm, clip_value=clip_value, param_groups=param_groups
        )
        self.betas = as_betas(betas)

    def numbers(self, rates: Array, step: int) -> Numbers:
        """Return lr, 1 - b1, 1 - b2 and the factor of p; see `Optimizer.numbers`."""
        first, second = self.betas
        return rates, 1 - first, 1 - second, 1 - rates * self.weight_decay
