"""Hyperbolic tangent."""

from __future__ import annotations

from .base import Activation

__all__ = ["Tanh"]


class Tanh(Activation):
    """Hyperbolic tangent: h(x) = tanh(x).

    Examples
    --------
    >>> import fastmlp as fm
    >>> fm.Tanh()([[-1.0, 0.0, 2.0]]).round(4)
    array([[-0.7616,  0.    ,  0.964 ]])
    """

    kind = "tanh"
    torch = "Tanh"
    onnx = ("Tanh", 6, {})
