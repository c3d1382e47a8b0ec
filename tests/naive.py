"""Naive float64 formulas, independent of the package, as references."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

_erfc = np.vectorize(math.erfc, otypes=[np.float64])


@dataclass
class Curve:
    """Activation h with h', a bound on |h''| away from 0, the jump of h' at 0, and whether h only selects."""

    h: Callable
    slope: Callable
    curvature: float
    jump: float = 0.0
    exact: bool = False


def sigmoid(x):
    return np.where(x >= 0, 1 / (1 + np.exp(-np.abs(x))), np.exp(-np.abs(x)) / (1 + np.exp(-np.abs(x))))


def _gelu_tanh(x):
    return x * sigmoid(2 * math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))


def _gelu_tanh_slope(x):
    u, du = math.sqrt(2 / math.pi) * (x + 0.044715 * x**3), math.sqrt(2 / math.pi) * (1 + 3 * 0.044715 * x**2)
    return sigmoid(2 * u) + x * sigmoid(2 * u) * sigmoid(-2 * u) * 2 * du


def curve(name, alpha=0.0):
    """Return the curve of an activation by its name in `MLP`."""
    return {
        "identity": Curve(lambda x: x, lambda x: np.ones_like(x), 0.0, exact=True),
        "relu": Curve(lambda x: np.maximum(x, 0), lambda x: (x > 0) * 1.0, 0.0, 1.0, exact=True),
        "leaky_relu": Curve(
            lambda x: np.where(x > 0, x, alpha * x),
            lambda x: np.where(x > 0, 1.0, alpha),
            0.0,
            abs(1 - alpha),
            exact=True,
        ),
        "elu": Curve(
            lambda x: np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0))),
            lambda x: np.where(x > 0, 1.0, alpha * np.exp(np.minimum(x, 0))),
            abs(alpha),
            abs(1 - alpha),
        ),
        "tanh": Curve(np.tanh, lambda x: 1 / np.cosh(np.clip(x, -300, 300)) ** 2, 0.77),
        "sigmoid": Curve(sigmoid, lambda x: sigmoid(x) * sigmoid(-x), 0.1),
        "gelu": Curve(
            lambda x: x * 0.5 * _erfc(-x / math.sqrt(2)),
            lambda x: 0.5 * _erfc(-x / math.sqrt(2)) + x * np.exp(-x * x / 2) / math.sqrt(2 * math.pi),
            0.8,
        ),
        "gelu_tanh": Curve(_gelu_tanh, _gelu_tanh_slope, 0.81),
        "silu": Curve(lambda x: x * sigmoid(x), lambda x: sigmoid(x) * (1 + x * sigmoid(-x)), 0.5),
        "softplus": Curve(lambda x: np.logaddexp(0, x), sigmoid, 0.25),
    }[name]


def softmax(x):
    e = np.exp(x - x.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)
