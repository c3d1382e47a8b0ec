"""Mean absolute error."""

from __future__ import annotations

import numpy as np

from .._common.validation import Array
from .elementwise import ElementwiseLoss

__all__ = ["L1Loss"]


class L1Loss(ElementwiseLoss):
    """Mean of |x - y| over all elements, with derivative 0 at 0; targets and ``reduction`` as in `ElementwiseLoss`."""

    kernel = "l1"

    def kink_sides(self, x: Array, target: Array) -> Array:
        """Return the sign of x - y."""
        sides: Array = np.sign(x - target)
        return sides
