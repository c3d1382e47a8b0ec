"""Sigmoid linear unit (swish)."""

from __future__ import annotations

from ..onnx_node import Node
from .base import Activation

__all__ = ["SiLU"]


class SiLU(Activation):
    """Sigmoid linear unit: h(x) = x / (1 + exp(-x)) (Elfwing et al., arXiv:1702.03118).

    Examples
    --------
    >>> import fastmlp as fm
    >>> fm.SiLU()([[-1.0, 0.0, 2.0]]).round(4)
    array([[-0.2689,  0.    ,  1.7616]])
    """

    kind = "silu"
    torch = "SiLU"

    def onnx_nodes(self) -> list[Node]:
        """Return nodes of x Sigmoid(x)."""
        return [Node("Sigmoid", 6), Node("Mul", 7, with_input=True)]
