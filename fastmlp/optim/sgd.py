"""Stochastic gradient descent with momentum."""

from __future__ import annotations

from typing import Any

from .._common.validation import Array, as_number
from .base import Numbers, Optimizer
from .schedules import Schedule

__all__ = ["SGD"]


class SGD(Optimizer):
    """SGD: g += weight_decay p; v = momentum v + g; p -= lr v, or lr (g + momentum v) with ``nesterov``.

    Sutskever et al., ICML 2013, in PyTorch's form: v does not contain lr, so that a change of lr takes effect at once.

    Parameters
    ----------
    lr : float or Schedule
        Learning rate, at least 0.
    momentum : float
        At least 0; 0 needs no state.
    nesterov : bool
        Whether to use Nesterov momentum; requires a momentum above 0.
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
    >>> trainer = fm.Trainer(fm.MLP(4, [8], 2, rng=0), fm.MSELoss(), fm.SGD(0.05, momentum=0.9, nesterov=True))
    >>> x, y = np.ones((5, 4), np.float32), np.zeros((5, 2), np.float32)
    >>> losses = [trainer.step(x, y) for _ in range(20)]
    >>> losses[-1] < losses[0]
    True
    """

    kernel = "sgd"
    usual_lr = 1e-2

    @classmethod
    def examples(cls) -> list[Optimizer]:
        """Return a plain instance, one with momentum, and one with all arguments."""
        return [cls(0.1), cls(0.1, 0.9), cls(0.1, 0.5, True, 0.1)]

    def __init__(
        self,
        lr: float | Schedule = 1e-3,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
        *,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        param_groups: Any = None,
    ) -> None:
        super().__init__(
            lr, weight_decay=weight_decay, clip_norm=clip_norm, clip_value=clip_value, param_groups=param_groups
        )
        self.momentum = as_number(momentum, "momentum", 0)
        self.nesterov = bool(nesterov)
        if self.nesterov and not self.momentum:
            raise ValueError(f"nesterov needs a momentum above 0, got {momentum!r}.")

    def numbers(self, rates: Array, step: int) -> Numbers:
        """Return lr, momentum, weight_decay and nesterov; see `Optimizer.numbers`."""
        return rates, self.momentum, self.weight_decay, float(self.nesterov)

    @property
    def kinds(self) -> tuple[str | None, ...]:
        """Names of the states: velocity, with momentum."""
        return ("velocity" if self.momentum else None,)
