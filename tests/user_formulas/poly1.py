"""-log p + a (1 - p): a registered formula of a loss of classes (Leng et al., arXiv:2204.12511)."""

from __future__ import annotations

from fastmlp._kernels.number import exp


def class_term(log_p, a):
    p = exp(log_p)
    return a * (1.0 - p) - log_p, -1.0 - a * p
