"""Loss denominators of the batches of a run."""

from __future__ import annotations

import numpy as np

from .._common.validation import Array
from ..losses import Loss

__all__ = ["loss_denominators"]


def loss_denominators(
    loss: Loss, target: Array, weight: Array | None, index: Array, bounds: Array, mixed: bool = False
) -> Array:
    """Return the denominator of each batch index[bounds[s]:bounds[s + 1]]; see `Loss.denominator`.

    ``mixed`` targets are distributions, so that target weights do not apply. A denominator of 0 is replaced by
    infinity, so that a batch whose rows all have weight 0 has the loss 0 and no gradient.
    """
    columns = loss.row_count(target.shape[1] if target.ndim == 2 else 1)
    of_rows: Array | None = None if weight is None else weight[index]
    of_targets = loss.target_weights(target[index]) if loss.weighs_targets and not mixed else None
    if of_targets is not None:
        of_rows = of_targets if of_rows is None else of_targets * of_rows
    if of_rows is None:
        return columns * (bounds[1:] - bounds[:-1]).astype(np.float64)
    sums: Array = np.add.reduceat(of_rows.astype(np.float64), bounds[:-1])
    return columns * np.where(sums > 0, sums, np.inf)
