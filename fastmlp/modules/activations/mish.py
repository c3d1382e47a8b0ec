"""Mish."""

from __future__ import annotations

from .base import Activation

__all__ = ["Mish"]


class Mish(Activation):
    """Mish: h(x) = x tanh(log(1 + exp(x))) (Misra, arXiv:1908.08681).

    Examples
    --------
    >>> import fastmlp as fm
    >>> fm.Mish()([[-1.0, 0.0, 2.0]]).round(4)
    array([[-0.3034,  0.    ,  1.944 ]])
    """

    kind = "mish"
    torch = "Mish"
    onnx = ("Mish", 18, {})
    onnx_runtime_float64 = False
