"""Leaky ReLU: h(x) = x where x > 0, else alpha x; h'(0) = alpha."""

from __future__ import annotations

from ...number import full_like, where


def forward(x, alpha):
    return where(x > 0.0, x, x * alpha)


def derivative(x, y, alpha):
    return where(x > 0.0, full_like(x, 1.0), alpha)


def derivative_of_output(x, y, alpha):
    return where(y > 0.0, full_like(y, 1.0), alpha)


def output_suffices(alpha):
    return alpha > 0  # otherwise the sign of x does not follow from y
