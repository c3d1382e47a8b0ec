"""Sigmoid: h(x) = 1 / (1 + e^-x); h' = y (1 - y)."""

from __future__ import annotations

from ...number import sigmoid


def forward(x, alpha):
    return sigmoid(x)


def derivative(x, y, alpha):
    return y * (1.0 - y)


def derivative_of_output(x, y, alpha):
    return y * (1.0 - y)
