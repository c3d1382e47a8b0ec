"""Hardswish: h(x) = x g with g = (x + 3) / 6 clamped to [0, 1].

h' is g where g is 0 or 1, else (2 x + 3) / 6.
"""

from ...number import absolute, clamp, fma, where

_SIXTH = 1.0 / 6.0
_THIRD = 1.0 / 3.0


def _gate(x):
    return (clamp(x, 3.0) + 3.0) * _SIXTH


def forward(x, alpha):
    return x * _gate(x)


def derivative(x, y, alpha):
    return where(absolute(x) < 3.0, fma(x, _THIRD, 0.5), _gate(x))
