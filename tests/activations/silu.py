"""h(x) = x sigmoid(x)."""

from activations import sigmoid


def h(x, alpha):
    return x * sigmoid.h(x)


def slope(x, alpha):
    return sigmoid.h(x) * (1 + x * sigmoid.h(-x))


def bounds(alpha):
    return 0.5, 0.0
