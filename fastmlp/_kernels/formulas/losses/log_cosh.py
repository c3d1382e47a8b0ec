"""Log-cosh loss: log cosh d = softplus(2 |d|) - |d| - log 2, with d = x - t."""

from __future__ import annotations

import math

from ...number import absolute, softplus, tanh

_LOG_2 = math.log(2)


def loss(x, t, w, a, b):
    d = x - t
    size = absolute(d)
    return softplus(size + size) - size - _LOG_2, tanh(d)
