"""Learned factor for each column."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from .._common.validation import Array, as_dtype, as_integer
from .base import Module
from .lowering import PlanBuilder
from .onnx_node import Node

__all__ = ["Scale"]


class Scale(Module):
    """Learned factor for each column: y_ij = x_ij weight_j, with x and y (N, I) and weight (I,), initially ones.

    Gradients: dx_ij = dy_ij weight_j, dweight_j = sum_i dy_ij x_ij (docs/derivations.md). The factor is that of
    LayerScale (Touvron et al., arXiv:2103.17239).

    Parameters
    ----------
    features : int
        I, at least 1.
    dtype : float32 or float64

    Raises
    ------
    ValueError
        If an argument is invalid.

    Examples
    --------
    >>> import fastmlp as fm
    >>> layer = fm.Scale(2)
    >>> layer.params["weight"] = [2, 3]
    >>> layer([[1, 1]])
    array([[2., 3.]], dtype=float32)
    """

    torch = "Scale"

    def __init__(self, features: int, *, dtype: npt.DTypeLike = np.float32) -> None:
        self.features = as_integer(features, "features")
        super().__init__(as_dtype(dtype), self.features, self.features)
        self.set_arrays({"weight": np.ones(self.features, self.dtype)}, {})

    def _compute(self, x: Array, keep: bool) -> Array:
        out: Array = self.backend.empty(x.shape, self.dtype)
        self.backend.columns_forward("scale", x, self.params["weight"], None, out)
        if keep:
            self._saved = (x,)
        return out

    def _gradient(self, dy: Array, need_dx: bool) -> Array | None:
        assert self._saved is not None
        (x,) = self._saved
        dx: Array = self.backend.empty(x.shape, self.dtype)
        self.backend.columns_backward("scale", dy, x, self.params["weight"], None, dx, self.grads["weight"], None)
        self.has_gradients = True
        return dx if need_dx else None

    def lower(self, builder: PlanBuilder) -> None:
        """Append a function by column."""
        builder.columns("scale", "weight")

    def onnx_nodes(self) -> list[Node]:
        """Return a Mul node."""
        return [Node("Mul", 7, (self.state_dict()["weight"],))]

    def torch_arguments(self) -> dict[str, Any]:
        """Return the weight."""
        return self.state_dict()

    @classmethod
    def examples_of_width(cls, width: int, dtype: np.dtype[Any], rng: np.random.Generator) -> list[Module]:
        """Return a module with random factors."""
        module = cls(width, dtype=dtype)
        module.params["weight"] = rng.standard_normal(width)
        return [module]

    def config(self) -> dict[str, Any]:
        """Return width and dtype."""
        return {"type": "Scale", "features": self.features, "dtype": str(self.dtype)}
