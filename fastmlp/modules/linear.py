"""Fully connected layer: Y = X Wᵀ + b."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from .._common.random import Rng, as_seed, layer_generator
from .._common.validation import Array, as_dtype, as_integer
from . import init as initializers
from .activations import Activation
from .base import Module
from .lowering import PlanBuilder
from .onnx_node import Node

__all__ = ["Linear"]


class Linear(Module):
    """Fully connected layer Y = X Wᵀ + b, with x (N, I), weight (O, I), bias (O,) and y (N, O).

    Gradients: dW = dYᵀ X, db = the sum of dY over the batch, dX = dY W (docs/derivations.md).

    Parameters
    ----------
    in_features, out_features : int
        I and O, at least 1.
    bias : bool
        Whether the layer has a ``bias``.
    init : str or callable
        Weight initializer, see `fastmlp.modules.init`; the default is PyTorch's.
    dtype : float32 or float64
    rng : int, numpy.random.Generator or None
        Seed of the weights, kept as ``seed``; None draws one.
    layer : int
        Index of the layer. The weights are a function of the seed and the index, so that layers with the same seed
        differ (`MLP` numbers its layers).

    Raises
    ------
    ValueError
        If an argument is invalid.

    Examples
    --------
    >>> import fastmlp as fm
    >>> fm.Linear(3, 2, rng=0)([[1.0, 2.0, 3.0]]).shape
    (1, 2)
    """

    in_features: int
    out_features: int
    torch = "Linear"
    penalized = ("weight",)

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        init: str | initializers.Initializer = "default",
        dtype: npt.DTypeLike = np.float32,
        rng: Rng = None,
        layer: int = 0,
    ) -> None:
        self.in_features = as_integer(in_features, "in_features")
        self.out_features = as_integer(out_features, "out_features")
        super().__init__(as_dtype(dtype), self.in_features, self.out_features)
        assert self.dtype is not None
        self.seed = as_seed(rng)
        generator = layer_generator(self.seed, as_integer(layer, "layer", 0))
        shape = (self.out_features, self.in_features)
        self.set_arrays(initializers.draw(init, shape, bool(bias), generator, self.dtype), {})

    def _compute(self, x: Array, keep: bool) -> Array:
        out: Array = self.backend.empty((x.shape[0], self.out_features), self.dtype)
        self.backend.linear_forward(x, self.params["weight"], self.params.get("bias"), out)
        if keep:
            self._saved = (x,)
        return out

    def compute_with(self, activation: Activation, x: Array, keep: bool) -> Array:
        """Compute this layer and the activation in one kernel, with the result of two `_compute` calls."""
        backend, shape = self.backend, (x.shape[0], self.out_features)
        out: Array = backend.empty(shape, self.dtype)
        pre = backend.empty(shape, self.dtype) if keep else None
        backend.linear_activation_forward(
            x, self.params["weight"], self.params.get("bias"), activation.kind, activation.alpha, pre, out
        )
        if keep:
            self._saved = (x,)
            activation._saved = (pre, out)
        return out

    def _gradient(self, dy: Array, need_dx: bool) -> Array | None:
        assert self._saved is not None
        (x,) = self._saved
        dx: Array | None = self.backend.empty(x.shape, self.dtype) if need_dx else None
        self.backend.linear_backward(dy, x, self.params["weight"], dx, self.grads["weight"], self.grads.get("bias"))
        self.has_gradients = True
        return dx

    def lower(self, builder: PlanBuilder) -> None:
        """Append a matrix product."""
        builder.linear(self.out_features, "weight", "bias" if "bias" in self.params else None)

    def onnx_nodes(self) -> list[Node]:
        """Return a Gemm node."""
        arrays = self.state_dict()
        bias = (arrays["bias"],) if "bias" in arrays else ()
        return [Node("Gemm", 7 if bias else 11, (arrays["weight"], *bias), {"transB": 1})]

    def torch_arguments(self) -> dict[str, Any]:
        """Return the widths, and whether there is a bias."""
        return {"in_features": self.in_features, "out_features": self.out_features, "bias": "bias" in self.params}

    @classmethod
    def examples_of_width(cls, width: int, dtype: np.dtype[Any], rng: np.random.Generator) -> list[Module]:
        """Return layers with and without a bias."""
        return [cls(width, 3, bias, dtype=dtype, rng=rng) for bias in (True, False)]

    def config(self) -> dict[str, Any]:
        """Return the widths, whether there is a bias, and the dtype."""
        return {
            "type": "Linear",
            "in_features": self.in_features,
            "out_features": self.out_features,
            "bias": "bias" in self.params,
            "dtype": str(self.dtype),
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Linear:
        """Build a layer of zeros."""
        arguments = {name: value for name, value in config.items() if name != "type"}
        return cls(**arguments, init="zeros", rng=0)
