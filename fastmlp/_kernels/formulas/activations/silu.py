"""SiLU: h(x) = x / (1 + e^-x)."""

from __future__ import annotations

from ...number import fma, sigmoid


def forward(x, alpha):
    return x * sigmoid(x)


def derivative(x, y, alpha):
    return sigmoid(x) * fma(x, sigmoid(-x), 1.0)
