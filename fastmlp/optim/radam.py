"""RAdam."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .._common.validation import Array
from .adam import Adam
from .base import Numbers, Optimizer
from .schedules import Schedule

__all__ = ["RAdam"]


class RAdam(Adam):
    """Rectified Adam: p -= lr m / (1 - b1^t), times r_t sqrt(1 - b2^t) / (sqrt(s) + eps) if rho_t > 5.

    Liu et al., arXiv:1908.03265, define r_t and rho_t; m and s are those of `Adam`, as are parameters and errors.

    Parameters
    ----------
    lr : float or Schedule
        Learning rate, at least 0.
    betas : pair of float
        b1 and b2, from 0 to below 1.
    eps : float
        At least 0.
    weight_decay : float
        At least 0; adds ``weight_decay p`` to g.
    decoupled_weight_decay : bool
        Whether weight decay shrinks p directly, as in `AdamW`, instead of being added to g.
    clip_norm, clip_value : float, optional
        Above 0; largest norm of all gradients together, and largest absolute value of an entry.
    param_groups : list of dict, optional
        Parameters with hyperparameters of their own, see `Optimizer.param_groups`.

    Examples
    --------
    >>> import numpy as np
    >>> import fastmlp as fm
    >>> trainer = fm.Trainer(fm.MLP(4, [8], 2, rng=0), fm.MSELoss(), fm.RAdam(0.01))
    >>> x, y = np.ones((5, 4), np.float32), np.zeros((5, 2), np.float32)
    >>> losses = [trainer.step(x, y) for _ in range(20)]
    >>> losses[-1] < losses[0]
    True
    """

    kernel = "radam"

    @classmethod
    def examples(cls) -> list[Optimizer]:
        """Return the examples of `Adam`, and an instance with decoupled weight decay."""
        return [*super().examples(), cls(0.02, weight_decay=0.1, decoupled_weight_decay=True)]

    def __init__(
        self,
        lr: float | Schedule = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        decoupled_weight_decay: bool = False,
        *,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        param_groups: Any = None,
    ) -> None:
        super().__init__(
            lr, betas, eps, weight_decay, clip_norm=clip_norm, clip_value=clip_value, param_groups=param_groups
        )
        self.decoupled_weight_decay = bool(decoupled_weight_decay)

    def numbers(self, rates: Array, step: int) -> Numbers:
        """Return the numbers of `Adam`, with the rectification in the last column; see `Optimizer.numbers`."""
        *others, _ = super().numbers(rates, step)
        return *others, np.array([_rectification(self.betas[1], t) for t in range(step, step + len(rates))])


def _rectification(beta: float, t: int) -> float:
    """Return r_t sqrt(1 - beta^t); 0 if rho_t is at most 5."""
    seen, rho = 1 - beta**t, 2 / (1 - beta) - 1
    now = rho - 2 * t * beta**t / seen
    return math.sqrt(seen * (now - 4) * (now - 2) * rho / ((rho - 4) * (rho - 2) * now)) if now > 5 else 0.0
