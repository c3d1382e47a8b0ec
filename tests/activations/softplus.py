"""h(x) = log(1 + e^x)."""

import numpy as np

from activations import sigmoid


def h(x, alpha):
    return np.where(x.real > 0, x, 0) + np.log1p(np.exp(np.where(x.real > 0, -x, x)))


def slope(x, alpha):
    return sigmoid.h(x)


def bounds(alpha):
    return 0.25, 0.0
