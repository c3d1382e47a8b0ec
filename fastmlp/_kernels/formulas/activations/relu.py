"""ReLU: h(x) = max(x, 0); h'(0) = 0; NaN stays NaN."""

from __future__ import annotations

from ...number import full_like, where


def forward(x, alpha):
    return where(x < 0.0, full_like(x, 0.0), x)


def derivative(x, y, alpha):
    return where(x > 0.0, full_like(x, 1.0), 0.0)


def derivative_of_output(x, y, alpha):
    return where(y > 0.0, full_like(y, 1.0), 0.0)
