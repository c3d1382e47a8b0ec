"""h(x) = tanh(x)."""

import numpy as np


def h(x, alpha):
    return np.tanh(x)


def slope(x, alpha):
    return 1 / np.cosh(np.clip(x, -300, 300)) ** 2


def bounds(alpha):
    return 0.77, 0.0
