"""Negative log-likelihood of counts."""

from __future__ import annotations

from .elementwise import ElementwiseLoss

__all__ = ["PoissonLoss"]


class PoissonLoss(ElementwiseLoss):
    """The mean of exp(x) - y x over all elements: x is the logarithm of the rate of a count y, at least 0.

    It is the negative logarithm of the likelihood less what does not depend on x, as PyTorch's PoissonNLLLoss.
    Targets and ``reduction`` are as for `ElementwiseLoss`.
    """

    kernel = "poisson"
    target_kind = "counts"
