"""h(x) = x (1 + tanh u) / 2 = x sigmoid(2 u), with u = c (x + k x^3)."""

import math

from activations import sigmoid

C, K = math.sqrt(2 / math.pi), 0.044715


def _u(x):
    return C * (x + K * x**3)


def h(x, alpha):
    return x * sigmoid.h(2 * _u(x))


def slope(x, alpha):
    gate, rest = sigmoid.h(2 * _u(x)), sigmoid.h(-2 * _u(x))
    return gate + x * gate * rest * 2 * C * (1 + 3 * K * x**2)


def bounds(alpha):
    return 0.81, 0.0
