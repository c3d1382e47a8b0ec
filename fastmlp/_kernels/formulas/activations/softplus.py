"""Softplus: h(x) = log(1 + e^x)."""

from __future__ import annotations

from ...number import sigmoid, softplus


def forward(x, alpha):
    return softplus(x)


def derivative(x, y, alpha):
    return sigmoid(x)
