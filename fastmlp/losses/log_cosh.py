"""Mean log cosh of the error."""

from __future__ import annotations

from .elementwise import ElementwiseLoss

__all__ = ["LogCoshLoss"]


class LogCoshLoss(ElementwiseLoss):
    """The mean of log cosh(x - y) over all elements; targets and ``reduction`` as for `ElementwiseLoss`."""

    kernel = "log_cosh"
