"""Mean absolute error."""

from __future__ import annotations

import numpy as np

from .._common.validation import Array
from .elementwise import ElementwiseLoss

__all__ = ["L1Loss"]


class L1Loss(ElementwiseLoss):
    """The mean of |x - y| over all elements, of slope 0 at 0; targets and ``reduction`` as for `ElementwiseLoss`."""

    kernel = "l1"

    def kink_sides(self, x: Array, target: Array) -> Array:
        """The sign of x - y."""
        sides: Array = np.sign(x - target)
        return sides
