"""Mean squared error."""

from __future__ import annotations

from .base import Loss
from .elementwise import ElementwiseLoss

__all__ = ["MSELoss"]


class MSELoss(ElementwiseLoss):
    """Mean of (x - y)^2 over all elements; targets and ``reduction`` are as in `ElementwiseLoss`.

    Parameters
    ----------
    half : bool
        Whether to halve the loss, so that the derivative of an element is x - y.
    reduction
        See `ElementwiseLoss`.

    Examples
    --------
    >>> import fastmlp as fm
    >>> loss, gradient = fm.MSELoss().forward_backward([[0.0, 3.0]], [[0.5, 0.0]])
    >>> round(float(loss), 4)
    4.625
    """

    kernel = "mse"

    @classmethod
    def examples(cls) -> list[Loss]:
        """Return instances with and without ``half``."""
        return [cls(), cls(half=True)]

    def __init__(self, *, reduction: str = "mean", half: bool = False) -> None:
        super().__init__(reduction=reduction)
        self.half = bool(half)

    def row_count(self, columns: int) -> float:
        """Return the count of `ElementwiseLoss`, doubled for ``half``."""
        return super().row_count(columns) * (2 if self.half else 1)
