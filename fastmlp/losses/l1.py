"""Mean absolute error."""

from __future__ import annotations

import numpy as np

from .._common.validation import Array
from .elementwise import ElementwiseLoss

__all__ = ["L1Loss"]


class L1Loss(ElementwiseLoss):
    """Mean of |x - y| over all elements, with derivative 0 at 0; targets and ``reduction`` as in `ElementwiseLoss`.

    Parameters
    ----------
    reduction
        See `ElementwiseLoss`.

    Examples
    --------
    >>> import fastmlp as fm
    >>> loss, gradient = fm.L1Loss().forward_backward([[0.0, 3.0]], [[0.5, 0.0]])
    >>> round(float(loss), 4)
    1.75
    """

    kernel = "l1"

    def kink_sides(self, x: Array, target: Array) -> Array:
        """Return the sign of x - y."""
        sides: Array = np.sign(x - target)
        return sides
