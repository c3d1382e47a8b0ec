"""Negative log-likelihood of counts."""

from __future__ import annotations

from typing import Any

import numpy as np

from .._common.validation import Array, as_elementwise_targets, as_real_array
from .elementwise import ElementwiseLoss

__all__ = ["PoissonLoss"]


class PoissonLoss(ElementwiseLoss):
    """The mean of exp(x) - y x over all elements: x is the logarithm of the rate of a count y, at least 0.

    It is the negative logarithm of the likelihood less what does not depend on x, as PyTorch's PoissonNLLLoss.
    Targets and ``reduction`` are as for `ElementwiseLoss`.
    """

    kernel = "poisson"
    target_kind = "counts"

    def check_targets(self, y: Any, outputs: Array) -> Array:
        """Targets of at least 0, of the outputs' shape and dtype; see `Loss.check_targets`."""
        where = type(self).__name__
        y = as_real_array(y, f"{where}: y")
        return as_elementwise_targets(y, outputs.shape, outputs.dtype, where, 0.0, np.inf)
