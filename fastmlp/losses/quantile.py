"""Quantile (pinball) loss."""

from __future__ import annotations

import numpy as np

from .._common.validation import Array, as_number
from .base import Loss
from .elementwise import ElementwiseLoss

__all__ = ["QuantileLoss"]


class QuantileLoss(ElementwiseLoss):
    """The mean of q d where d = y - x > 0, else (q - 1) d: least where a share q of the targets lies below x.

    Of slope 0 at d = 0 (Koenker and Bassett, 1978, doi:10.2307/1913643).

    Parameters
    ----------
    quantile : float
        Above 0 and below 1; 0.5 is half of `L1Loss`.
    reduction
        See `ElementwiseLoss`.

    Raises
    ------
    ValueError
        If an argument is not as described.
    """

    kernel = "quantile"
    number_names = ("quantile",)

    @classmethod
    def examples(cls) -> list[Loss]:
        """One with another number than the default."""
        return [cls(0.3)]

    def __init__(self, quantile: float = 0.5, *, reduction: str = "mean") -> None:
        super().__init__(reduction=reduction)
        self.quantile = as_number(quantile, "quantile", 0, 1, open_low=True, open_high=True)

    def kink_sides(self, x: Array, target: Array) -> Array:
        """The sign of x - y."""
        sides: Array = np.sign(x - target)
        return sides
