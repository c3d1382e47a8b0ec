"""h(x) = x if x > 0, else alpha (e^x - 1)."""

import numpy as np


def h(x, alpha):
    return np.where(x.real > 0, x, alpha * np.expm1(np.where(x.real > 0, 0, x)))


def slope(x, alpha):
    return np.where(x > 0, 1.0, alpha * np.exp(np.minimum(x, 0)))


def bounds(alpha):
    return abs(alpha), abs(1 - alpha)
