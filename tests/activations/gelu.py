"""h(x) = x Phi(x)."""

import math

import numpy as np

_erfc = np.vectorize(math.erfc, otypes=[np.float64])


def density(x):
    return np.exp(-x * x / 2) / math.sqrt(2 * math.pi)


def distribution(x):
    """Phi; of complex numbers by the series 1/2 + phi(x) (x + x^3/3 + x^5/(3 5) + ...), fine for small ones."""
    if x.dtype.kind != "c":
        return 0.5 * _erfc(-x / math.sqrt(2))
    term = total = x
    for n in range(3, 80, 2):
        term = term * x * x / n
        total = total + term
    return 0.5 + density(x) * total


def h(x, alpha):
    return x * distribution(x)


def slope(x, alpha):
    return distribution(x) + x * density(x)


def bounds(alpha):
    return 0.8, 0.0
