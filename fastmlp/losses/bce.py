"""Binary cross-entropy from logits."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from .._common.validation import Array, as_float, as_real_array, as_vector
from .base import Loss
from .elementwise import ElementwiseLoss

__all__ = ["BCEWithLogitsLoss"]


class BCEWithLogitsLoss(ElementwiseLoss):
    """Binary cross-entropy from logits: the mean of p y softplus(-x) + (1 - y) softplus(x) over all elements.

    Targets y are numbers from 0 to 1 in the shape of x, or (N,) for outputs (N, 1).

    Parameters
    ----------
    pos_weight : float or array-like of shape (O,), optional
        Weight p of the positive targets of each column, at least 0.
    reduction
        See `ElementwiseLoss`.

    Raises
    ------
    ValueError
        If a weight is not a number of at least 0.

    Examples
    --------
    >>> import fastmlp as fm
    >>> loss, gradient = fm.BCEWithLogitsLoss().forward_backward([[0.0], [2.0]], [0, 1])
    >>> round(float(loss), 4)
    0.41
    """

    kernel = "bce"
    target_kind = "unit"
    task = "binary"

    @classmethod
    def examples(cls) -> list[Loss]:
        """Return a plain instance, and one with a weight of the positive targets."""
        return [cls(), cls(pos_weight=2.5)]

    def __init__(self, pos_weight: npt.ArrayLike | None = None, *, reduction: str = "mean") -> None:
        super().__init__(reduction=reduction)
        self.pos_weight: Array | None = None
        if pos_weight is not None:
            self.pos_weight = as_vector(
                np.atleast_1d(as_real_array(pos_weight, "pos_weight")), None, "pos_weight", positive=True
            )

    def check_targets(self, y: Any, outputs: Array) -> Array:
        """Return targets from 0 to 1 in the outputs' shape and dtype; see `Loss.check_targets`."""
        columns = outputs.shape[1]
        if self.pos_weight is not None and len(self.pos_weight) not in (1, columns):
            raise ValueError(f"pos_weight has {len(self.pos_weight)} entries; expected 1 or {columns}.")
        return super().check_targets(y, outputs)

    def column_weight(self, columns: int, dtype: np.dtype[Any]) -> Array | None:
        """Return the weights of the positive targets."""
        if self.pos_weight is None:
            return None
        return np.array(np.broadcast_to(as_float(self.pos_weight, dtype, "pos_weight"), (columns,)))
