"""Logistic function."""

from __future__ import annotations

from .base import Activation

__all__ = ["Sigmoid"]


class Sigmoid(Activation):
    """Logistic function: h(x) = 1 / (1 + exp(-x)).

    Examples
    --------
    >>> import fastmlp as fm
    >>> fm.Sigmoid()([[-1.0, 0.0, 2.0]]).round(4)
    array([[0.2689, 0.5   , 0.8808]])
    """

    kind = "sigmoid"
    torch = "Sigmoid"
    onnx = ("Sigmoid", 6, {})
