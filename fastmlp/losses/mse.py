"""Mean squared error."""

from __future__ import annotations

from .base import Loss
from .elementwise import ElementwiseLoss

__all__ = ["MSELoss"]


class MSELoss(ElementwiseLoss):
    """The mean of (x - y)^2 over all elements; targets and ``reduction`` as for `ElementwiseLoss`.

    Parameters
    ----------
    half : bool
        Whether it is half of that, whose slope is x - y.
    """

    kernel = "mse"

    @classmethod
    def examples(cls) -> list[Loss]:
        """Whole and half."""
        return [cls(), cls(half=True)]

    def __init__(self, *, reduction: str = "mean", half: bool = False) -> None:
        super().__init__(reduction=reduction)
        self.half = bool(half)

    def row_count(self, columns: int) -> float:
        """As `ElementwiseLoss`, twice that for the half."""
        return super().row_count(columns) * (2 if self.half else 1)
