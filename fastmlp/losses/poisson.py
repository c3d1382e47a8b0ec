"""Negative log-likelihood of counts."""

from __future__ import annotations

from .elementwise import ElementwiseLoss

__all__ = ["PoissonLoss"]


class PoissonLoss(ElementwiseLoss):
    """Poisson negative log-likelihood: the mean of exp(x) - y x over all elements, for log rates x and counts y >= 0.

    Terms that do not depend on x are omitted, as in PyTorch's PoissonNLLLoss. Targets and ``reduction`` are as in
    `ElementwiseLoss`.
    """

    kernel = "poisson"
    target_kind = "counts"
