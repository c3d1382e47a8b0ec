"""Lion."""

from __future__ import annotations

from .._common.validation import Array
from .base import Optimizer, as_betas, columns
from .schedules import Schedule

__all__ = ["Lion"]


class Lion(Optimizer):
    """c = b1 m + (1 - b1) g; p -= lr (sign(c) + weight_decay p); m = b2 m + (1 - b2) g.

    Chen et al., arXiv:2302.06675: every entry moves by the rate, whatever its gradient's size, so that rates are three
    to ten times smaller than Adam's, and weight decays as much larger.

    Parameters
    ----------
    betas : pair of float
        b1 and b2, from 0 to below 1.
    weight_decay : float
        At least 0; decoupled: it shrinks p by itself instead of being added to g.

    Raises
    ------
    ValueError
        If an argument is out of range.
    """

    kernel = "lion"
    usual_lr = 1e-4

    @classmethod
    def examples(cls) -> list[Optimizer]:
        """With the defaults, and with other values of all arguments."""
        return [cls(0.001), cls(0.01, (0.8, 0.7), 0.1)]

    def __init__(
        self,
        lr: float | Schedule = 1e-4,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
        *,
        clip_norm: float | None = None,
        clip_value: float | None = None,
    ) -> None:
        super().__init__(lr, weight_decay=weight_decay, clip_norm=clip_norm, clip_value=clip_value)
        self.betas = as_betas(betas)

    def numbers(self, rates: Array, step: int) -> Array:
        """lr, 1 - b1, 1 - b2, factor of p; see `Optimizer.numbers`."""
        first, second = self.betas
        return columns(rates, 1 - first, 1 - second, 1 - rates * self.weight_decay)
