"""ElementwiseLoss: base class of the losses that sum over elements."""

from __future__ import annotations

from typing import Any

from .._common.validation import Array
from .base import Loss, runs_kernel

__all__ = ["ElementwiseLoss"]


class ElementwiseLoss(Loss):
    """Base class of the losses that sum over elements; targets have the shape of x, or (N,) for outputs (N, 1).

    Parameters
    ----------
    reduction : {"mean", "rows"}
        "mean" averages over all elements. "rows" sums over the elements of each row and averages over the rows.

    Raises
    ------
    ValueError
        If ``reduction`` is invalid.
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
        """Return the number of elements for "mean", 1 for "rows"."""
        return float(columns) if self.reduction == "mean" else 1.0
