"""Hyperbolic tangent."""

from __future__ import annotations

from .base import Activation

__all__ = ["Tanh"]


class Tanh(Activation):
    """Hyperbolic tangent: h(x) = tanh(x)."""

    kind = "tanh"
    torch = "Tanh"
    onnx = ("Tanh", 6, {})
