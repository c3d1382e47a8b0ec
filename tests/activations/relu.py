"""h(x) = max(x, 0)."""

import numpy as np

EXACT = True


def h(x, alpha):
    return np.where(x.real > 0, x, 0)


def slope(x, alpha):
    return (x > 0) * 1.0


def bounds(alpha):
    return 0.0, 1.0
