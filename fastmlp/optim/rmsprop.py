"""RMSprop."""

from __future__ import annotations

from typing import Any, ClassVar

from .._common.validation import Array, as_number
from .base import Numbers, Optimizer
from .schedules import Schedule

__all__ = ["RMSprop"]


class RMSprop(Optimizer):
    """RMSprop: g += weight_decay p; s = alpha s + (1 - alpha) g^2; u = g / (sqrt(s) + eps); p -= lr u.

    With ``centered``, s - m^2 replaces s, where m = alpha m + (1 - alpha) g. With momentum, v = momentum v + u and
    p -= lr v (Hinton's lecture 6e, and Graves, arXiv:1308.0850).

    Parameters
    ----------
    lr : float or Schedule
        Learning rate, at least 0.
    alpha : float
        From 0 to 1.
    eps, momentum : float
        At least 0.
    centered : bool
        Whether to divide g by an estimate of its standard deviation instead of its root mean square.
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
    >>> trainer = fm.Trainer(fm.MLP(4, [8], 2, rng=0), fm.MSELoss(), fm.RMSprop(0.01))
    >>> x, y = np.ones((5, 4), np.float32), np.zeros((5, 2), np.float32)
    >>> losses = [trainer.step(x, y) for _ in range(20)]
    >>> losses[-1] < losses[0]
    True
    """

    kernel = "rmsprop"
    _renamed: ClassVar[dict[str, str]] = {"square": "square_avg", "mean": "grad_avg"}

    @classmethod
    def examples(cls) -> list[Optimizer]:
        """Return an instance for each set of states, the last one with all arguments."""
        return [cls(), cls(centered=True), cls(0.005, momentum=0.5), cls(0.005, 0.9, 1e-3, 0.5, True, 0.1)]

    def __init__(
        self,
        lr: float | Schedule = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        momentum: float = 0.0,
        centered: bool = False,
        weight_decay: float = 0.0,
        *,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        param_groups: Any = None,
    ) -> None:
        super().__init__(
            lr, weight_decay=weight_decay, clip_norm=clip_norm, clip_value=clip_value, param_groups=param_groups
        )
        self.alpha = as_number(alpha, "alpha", 0, 1)
        self.eps = as_number(eps, "eps", 0)
        self.momentum = as_number(momentum, "momentum", 0)
        self.centered = bool(centered)

    def numbers(self, rates: Array, step: int) -> Numbers:
        """Return lr, alpha, 1 - alpha, eps, weight_decay, momentum and centered; see `Optimizer.numbers`."""
        return (
            rates, self.alpha, 1 - self.alpha, self.eps, self.weight_decay, self.momentum, float(self.centered)
        )  # fmt: skip

    @property
    def kinds(self) -> tuple[str | None, ...]:
        """Names of the states: mean square; mean if centered; velocity with momentum."""
        return "square_avg", "grad_avg" if self.centered else None, "velocity" if self.momentum else None
