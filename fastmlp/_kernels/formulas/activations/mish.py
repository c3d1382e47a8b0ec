"""Mish: h(x) = x tanh s with s = log(1 + e^x); 1 - tanh^2 s = 4 q / (1 + q)^2 with q = e^-2s."""

from ...number import exp, fma, sigmoid, softplus, tanh


def forward(x, alpha):
    return x * tanh(softplus(x))


def derivative(x, y, alpha):
    s = softplus(x)
    q = exp(s * -2.0)
    return fma(x * sigmoid(x), q * 4.0 / ((q + 1.0) * (q + 1.0)), tanh(s))
