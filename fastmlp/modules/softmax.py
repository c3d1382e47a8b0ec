"""Softmax by row."""

from __future__ import annotations

from typing import Any

import numpy as np

from .._common.validation import Array
from .base import Module
from .lowering import PlanBuilder
from .onnx_node import Node

__all__ = ["Softmax"]


class Softmax(Module):
    """Softmax by row, y_ij = exp(x_ij) / sum_k exp(x_ik), for `CrossEntropyLoss` with ``from_logits=False``.

    The exponents are x_ij - max_k x_ik, so large logits do not overflow and -inf gives 0. The gradient is
    dx_ij = y_ij (dy_ij - sum_n dy_in y_in).

    Examples
    --------
    >>> import fastmlp as fm
    >>> fm.Softmax()([[0.0, 1.0, 2.0]]).round(3)
    array([[0.09 , 0.245, 0.665]])
    """

    torch = "Softmax"
    gives_probabilities = True

    def __init__(self) -> None:
        super().__init__()

    def _compute(self, x: Array, keep: bool) -> Array:
        out: Array = self.backend.empty(x.shape, x.dtype)
        self.backend.softmax_forward(x, out)
        if keep:
            self._saved = (x, out)
        return out

    def _gradient(self, dy: Array, need_dx: bool) -> Array | None:
        if not need_dx:
            return None
        assert self._saved is not None
        x, y = self._saved
        dx: Array = self.backend.empty(x.shape, x.dtype)
        self.backend.softmax_backward(dy, y, dx)
        return dx

    def lower(self, builder: PlanBuilder) -> None:
        """Append a softmax."""
        builder.softmax()

    def onnx_nodes(self) -> list[Node]:
        """Return a Softmax node."""
        return [Node("Softmax", 13, attributes={"axis": -1})]

    def torch_arguments(self) -> dict[str, Any]:
        """Return the last dimension."""
        return {"dim": -1}

    @classmethod
    def examples_of_width(cls, width: int, dtype: np.dtype[Any], rng: np.random.Generator) -> list[Module]:
        """Return a module; there are no variants."""
        return [cls()]
