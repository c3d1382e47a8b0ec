"""GELU with tanh: h(x) = x (1 + tanh(u)) / 2 = x sigmoid(2 u), with u = sqrt(2 / pi) (x + 0.044715 x^3)."""

from __future__ import annotations

import math

from ...number import fma, sigmoid

_FACTOR = 2.0 * math.sqrt(2.0 / math.pi)
_CUBE = 0.044715
_SQUARE = 3.0 * _CUBE


def _gate(x):
    return sigmoid((x + x * x * x * _CUBE) * _FACTOR)


def forward(x, alpha):
    return x * _gate(x)


def derivative(x, y, alpha):
    gate, rest = _gate(x), _gate(-x)  # rest is 1 - gate without cancellation
    return gate + x * gate * rest * _FACTOR * fma(x * x, _SQUARE, 1.0)
