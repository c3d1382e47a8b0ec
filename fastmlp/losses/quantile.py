"""Quantile (pinball) loss."""

from __future__ import annotations

import numpy as np

from .._common.validation import Array, as_number
from .base import Loss
from .elementwise import ElementwiseLoss

__all__ = ["QuantileLoss"]


class QuantileLoss(ElementwiseLoss):
    """Pinball loss: the mean of q d if d = y - x > 0, else (q - 1) d; it is minimal at the q-quantile of the targets.

    The derivative at d = 0 is 0 (Koenker and Bassett, 1978, doi:10.2307/1913643).

    Parameters
    ----------
    quantile : float
        Above 0 and below 1; 0.5 gives half of `L1Loss`.
    reduction
        See `ElementwiseLoss`.

    Raises
    ------
    ValueError
        If an argument is invalid.

    Examples
    --------
    >>> import fastmlp as fm
    >>> loss, gradient = fm.QuantileLoss(0.9).forward_backward([[0.0], [1.0]], [[2.0], [0.0]])
    >>> round(float(loss), 4)
    0.95
    """

    kernel = "quantile"
    number_names = ("quantile",)

    @classmethod
    def examples(cls) -> list[Loss]:
        """Return an instance with another quantile than the default."""
        return [cls(0.3)]

    def __init__(self, quantile: float = 0.5, *, reduction: str = "mean") -> None:
        super().__init__(reduction=reduction)
        self.quantile = as_number(quantile, "quantile", 0, 1, open_low=True, open_high=True)

    def kink_sides(self, x: Array, target: Array) -> Array:
        """Return the sign of x - y."""
        sides: Array = np.sign(x - target)
        return sides
