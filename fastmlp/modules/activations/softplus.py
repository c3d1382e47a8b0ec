"""Softplus."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from .base import Activation

__all__ = ["Softplus"]


class Softplus(Activation):
    """Softplus: h(x) = log(1 + exp(x)), without PyTorch's linear threshold (Dugas et al., NIPS 2000).

    Examples
    --------
    >>> import fastmlp as fm
    >>> fm.Softplus()([[-1.0, 0.0, 2.0]]).round(4)
    array([[0.3133, 0.6931, 2.1269]])
    """

    kind = "softplus"
    torch = "Softplus"
    torch_options: ClassVar[Mapping[str, Any]] = {"threshold": 50}  # above it log(1 + exp(x)) rounds to x in float64
    torch_expects: ClassVar[Mapping[str, Any]] = {"beta": 1}
    onnx = ("Softplus", 1, {})
    onnx_runtime_float64 = False
