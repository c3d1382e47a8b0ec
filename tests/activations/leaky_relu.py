"""h(x) = x if x > 0, else alpha x."""

import numpy as np

EXACT = True


def h(x, alpha):
    return np.where(x.real > 0, x, alpha * x)


def slope(x, alpha):
    return np.where(x > 0, 1.0, alpha)


def bounds(alpha):
    return 0.0, abs(1 - alpha)
