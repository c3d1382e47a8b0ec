"""Adam, and AdamW with decoupled weight decay."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np

from .._common.validation import Array, as_number
from .base import Numbers, Optimizer, as_betas
from .schedules import Schedule

__all__ = ["Adam", "AdamW"]


class Adam(Optimizer):
    """Adam: p -= lr m / (1 - b1^t) / (sqrt(s / (1 - b2^t)) + eps).

    First g += weight_decay p, then m = b1 m + (1 - b1) g and s = b2 s + (1 - b2) g^2
    (Kingma and Ba, arXiv:1412.6980).

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
    >>> trainer = fm.Trainer(fm.MLP(4, [8], 2, rng=0), fm.MSELoss(), fm.Adam(0.01))
    >>> x, y = np.ones((5, 4), np.float32), np.zeros((5, 2), np.float32)
    >>> losses = [trainer.step(x, y) for _ in range(20)]
    >>> losses[-1] < losses[0]
    True
    """

    # Whether weight decay multiplies p by 1 - lr weight_decay (`AdamW`) instead of being added to g.
    decoupled_weight_decay: bool = False
    kernel = "adam"
    _renamed: ClassVar[dict[str, str]] = {"mean": "exp_avg", "square": "exp_avg_sq"}

    @classmethod
    def examples(cls) -> list[Optimizer]:
        """Return an instance with the defaults, and one with other values of all arguments."""
        return [cls(0.01), cls(0.02, (0.8, 0.9), 1e-3, 0.1)]

    def __init__(
        self,
        lr: float | Schedule = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
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
        self.eps = as_number(eps, "eps", 0)

    def numbers(self, rates: Array, step: int) -> Numbers:
        """Return rate, 1 - b1, b2, 1 - b2, eps, decay of g, factor of p and unroot; see `Optimizer.numbers`."""
        first, second = self.betas
        steps = range(step, step + len(rates))
        corrections = np.array([[1 - first**t, math.sqrt(1 - second**t)] for t in steps]).T
        added, own = (0.0, self.weight_decay) if self.decoupled_weight_decay else (self.weight_decay, 0.0)
        return (
            rates / corrections[0], 1 - first, second, 1 - second, self.eps, added, 1 - rates * own,
            1 / corrections[1],
        )  # fmt: skip


class AdamW(Adam):
    """Adam with decoupled weight decay: p *= 1 - lr weight_decay, then the update of `Adam` without decay.

    Loshchilov and Hutter, arXiv:1711.05101. Parameters and errors are those of `Adam`.

    Parameters
    ----------
    lr : float or Schedule
        Learning rate, at least 0.
    betas : pair of float
        b1 and b2, from 0 to below 1.
    eps : float
        At least 0.
    weight_decay : float
        At least 0; shrinks p directly.
    clip_norm, clip_value : float, optional
        Above 0; largest norm of all gradients together, and largest absolute value of an entry.
    param_groups : list of dict, optional
        Parameters with hyperparameters of their own, see `Optimizer.param_groups`.

    Examples
    --------
    >>> import numpy as np
    >>> import fastmlp as fm
    >>> trainer = fm.Trainer(fm.MLP(4, [8], 2, rng=0), fm.MSELoss(), fm.AdamW(0.01, weight_decay=0.1))
    >>> x, y = np.ones((5, 4), np.float32), np.zeros((5, 2), np.float32)
    >>> losses = [trainer.step(x, y) for _ in range(20)]
    >>> losses[-1] < losses[0]
    True
    """

    decoupled_weight_decay = True

    def __init__(
        self,
        lr: float | Schedule = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        *,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        param_groups: Any = None,
    ) -> None:
        super().__init__(
            lr, betas, eps, weight_decay, clip_norm=clip_norm, clip_value=clip_value, param_groups=param_groups
        )
