"""Mish."""

from __future__ import annotations

from .base import Activation

__all__ = ["Mish"]


class Mish(Activation):
    """Mish: h(x) = x tanh(log(1 + exp(x))) (Misra, arXiv:1908.08681)."""

    kind = "mish"
    torch = "Mish"
    onnx = ("Mish", 18, {})
    onnx_runtime_float64 = False
