"""Hyperbolic tangent: h(x) = tanh(x); h' = 1 - y^2."""

from __future__ import annotations

from ...number import tanh


def forward(x, alpha):
    return tanh(x)


def derivative(x, y, alpha):
    return (1.0 - y) * (1.0 + y)


def derivative_of_output(x, y, alpha):
    return (1.0 - y) * (1.0 + y)
