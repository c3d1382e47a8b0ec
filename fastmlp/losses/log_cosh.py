"""Mean log cosh of the error."""

from __future__ import annotations

from .elementwise import ElementwiseLoss

__all__ = ["LogCoshLoss"]


class LogCoshLoss(ElementwiseLoss):
    """Mean of log cosh(x - y) over all elements; targets and ``reduction`` are as in `ElementwiseLoss`.

    Parameters
    ----------
    reduction
        See `ElementwiseLoss`.

    Examples
    --------
    >>> import fastmlp as fm
    >>> loss, gradient = fm.LogCoshLoss().forward_backward([[0.0, 3.0]], [[0.5, 0.0]])
    >>> round(float(loss), 4)
    1.2147
    """

    kernel = "log_cosh"
