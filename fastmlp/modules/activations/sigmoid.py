"""Logistic function."""

from __future__ import annotations

from .base import Activation

__all__ = ["Sigmoid"]


class Sigmoid(Activation):
    """Logistic function: h(x) = 1 / (1 + exp(-x))."""

    kind = "sigmoid"
    torch = "Sigmoid"
    onnx = ("Sigmoid", 6, {})
