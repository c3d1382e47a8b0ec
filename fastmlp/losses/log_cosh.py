"""Mean log cosh of the error."""

from __future__ import annotations

from .elementwise import ElementwiseLoss

__all__ = ["LogCoshLoss"]


class LogCoshLoss(ElementwiseLoss):
    """Mean of log cosh(x - y) over all elements; targets and ``reduction`` are as in `ElementwiseLoss`."""

    kernel = "log_cosh"
