"""ElementwiseLoss: base of the losses that add up over single elements."""

from __future__ import annotations

from typing import Any

from .._common.validation import Array
from .base import Loss, runs_kernel

__all__ = ["ElementwiseLoss"]


class ElementwiseLoss(Loss):
    """Base of the losses that add up over single elements; targets of x's shape, or (N,) for outputs (N, 1).

    Parameters
    ----------
    reduction : {"mean", "rows"}
        "mean" is that over all elements; "rows" adds up the elements of each row, and takes the mean over the rows.

    Raises
    ------
    ValueError
        If it is another.
    """

    def __init__(self, *, reduction: str = "mean") -> None:
        super().__init__()
        if reduction not in ("mean", "rows"):
            raise ValueError(f"reduction is {reduction!r}; expected 'mean' or 'rows'.")
        self.reduction = reduction

    @runs_kernel
    def _call(self, x: Array, target: Array, *rest: Any) -> None:
        weight = self.column_weight(x.shape[1], x.dtype)
        weight = None if weight is None else self.backend.from_numpy(weight)
        self.backend.elementwise_loss(self.kernel, x, target, weight, self.numbers, *rest)

    def row_count(self, columns: int) -> float:
        """All its elements, or 1 where they are added up."""
        return float(columns) if self.reduction == "mean" else 1.0
