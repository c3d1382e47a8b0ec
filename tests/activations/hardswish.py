"""h(x) = x min(max(x + 3, 0), 6) / 6."""

import numpy as np


def h(x, alpha):
    return np.where(np.abs(x.real) < 3, x * (x / 6 + 0.5), np.where(x.real > 0, x, 0))


def slope(x, alpha):
    return np.where(np.abs(x) < 3, x / 3 + 0.5, x > 0)


def bounds(alpha):
    return 1 / 3, 0.5
