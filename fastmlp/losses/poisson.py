"""Negative log-likelihood of counts."""

from __future__ import annotations

from .elementwise import ElementwiseLoss

__all__ = ["PoissonLoss"]


class PoissonLoss(ElementwiseLoss):
    """Poisson negative log-likelihood: the mean of exp(x) - y x over all elements, for log rates x and counts y >= 0.

    Terms that do not depend on x are omitted, as in PyTorch's PoissonNLLLoss. Targets and ``reduction`` are as in
    `ElementwiseLoss`.

    Parameters
    ----------
    reduction
        See `ElementwiseLoss`.

    Examples
    --------
    >>> import fastmlp as fm
    >>> loss, gradient = fm.PoissonLoss().forward_backward([[0.0], [1.0]], [[2.0], [3.0]])
    >>> round(float(loss), 4)
    0.3591
    """

    kernel = "poisson"
    target_kind = "counts"
