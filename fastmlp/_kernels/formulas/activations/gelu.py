"""GELU: h(x) = x Phi(x), where Phi is the normal distribution function."""

from __future__ import annotations

from ...number import fma, normal_cdf, normal_pdf


def forward(x, alpha):
    return x * normal_cdf(x)


def derivative(x, y, alpha):
    return fma(x, normal_pdf(x), normal_cdf(x))
