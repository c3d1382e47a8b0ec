"""Rectified linear unit."""

from __future__ import annotations

from .base import Activation

__all__ = ["ReLU"]


class ReLU(Activation):
    """Rectified linear unit: h(x) = max(x, 0); h'(0) = 0 (Nair and Hinton, ICML 2010).

    Examples
    --------
    >>> import fastmlp as fm
    >>> fm.ReLU()([[-1.0, 0.0, 2.0]]).round(4)
    array([[0., 0., 2.]])
    """

    kind = "relu"
    torch = "ReLU"
    onnx = ("Relu", 6, {})
    has_kink = True
