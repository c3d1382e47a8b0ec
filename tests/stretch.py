"""Example of a function by column with two trained parameters: y = a tanh(b x), whose derivatives depend on both."""

from __future__ import annotations

import numpy as np

from fastmlp._kernels.number import tanh


def forward(x, a, b):
    return a * tanh(b * x)


def derivative(x, a, b):
    y = tanh(b * x)
    return a * b * (1.0 - y) * (1.0 + y)


def derivative_a(x, a, b):
    return tanh(b * x)


def derivative_b(x, a, b):
    y = tanh(b * x)
    return a * x * (1.0 - y) * (1.0 + y)


# Entry for `reference._COLUMNS`.
REFERENCE = (
    lambda x, a, b: a * np.tanh(b * x),
    lambda x, a, b: a * b * (1 - np.tanh(b * x) ** 2),
    lambda x, a, b: np.tanh(b * x),
    lambda x, a, b: a * x * (1 - np.tanh(b * x) ** 2),
)
