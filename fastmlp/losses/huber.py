"""Huber loss."""

from __future__ import annotations

import numpy as np

from .._common.validation import Array, as_number
from .base import Loss
from .elementwise import ElementwiseLoss

__all__ = ["HuberLoss"]


class HuberLoss(ElementwiseLoss):
    """Huber loss: the mean of d^2 / 2 if |d| <= delta, else delta (|d| - delta / 2), with d = x - y (Huber, 1964).

    Parameters
    ----------
    delta : float
        Above 0.
    reduction
        See `ElementwiseLoss`.

    Raises
    ------
    ValueError
        If an argument is invalid.

    Examples
    --------
    >>> import fastmlp as fm
    >>> loss, gradient = fm.HuberLoss(delta=1.0).forward_backward([[0.0, 3.0]], [[0.5, 0.0]])
    >>> round(float(loss), 4)
    1.3125
    """

    kernel = "huber"
    number_names = ("delta",)

    @classmethod
    def examples(cls) -> list[Loss]:
        """Return an instance with another delta than the default."""
        return [cls(0.7)]

    def __init__(self, delta: float = 1.0, *, reduction: str = "mean") -> None:
        super().__init__(reduction=reduction)
        self.delta = as_number(delta, "delta", 0, open_low=True)

    def kink_sides(self, x: Array, target: Array) -> Array:
        """Return the sign of |x - y| - delta, where the second derivative jumps."""
        sides: Array = np.sign(np.abs(x - target) - self.delta)
        return sides
