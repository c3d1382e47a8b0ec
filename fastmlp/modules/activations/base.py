"""Activation: base of the element-wise activations y = h(x), dx = dy h'(x); at kinks h' has PyTorch's value."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from ..._common.validation import Array
from ..base import Module
from ..lowering import PlanBuilder
from ..onnx_node import Node

__all__ = ["Activation"]


class Activation(Module):
    """Base of the activations.

    Attributes
    ----------
    kind : str
        The name of the formula, see `_kernels.formulas.activations`; alpha : float, its one number.
    has_kink : bool
        Whether the first or second derivative jumps, at the points ``kinks``: central differences across them say
        nothing.
    names : dict of str to dict
        The names by which `activation_from_name` knows it, and the arguments that each stands for; as a rule ``kind``.
    torch : str
        The class in torch.nn, which takes the arguments of `config` under the same names, and ``torch_options`` beside;
        a layer of it has to have the attributes ``torch_expects``.
    onnx : tuple of (str, int, dict of str to str) or None
        The operator, the opset in which it came to be as it is, and our names of its attributes.
    onnx_expects : dict
        What further attributes of the operator have to be.
    onnx_runtime_float64 : bool
        Whether ONNX Runtime computes the operator in float64, not in float32 alone.
    """

    kind: str = "identity"
    alpha: float = 0.0
    has_kink = False
    kinks: ClassVar[tuple[float, ...]] = (0.0,)
    names: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    torch: ClassVar[str | None] = None
    torch_options: ClassVar[Mapping[str, Any]] = {}
    torch_expects: ClassVar[Mapping[str, Any]] = {}
    onnx: ClassVar[tuple[str, int, Mapping[str, str]] | None] = None
    onnx_expects: ClassVar[Mapping[str, Any]] = {}
    onnx_runtime_float64: ClassVar[bool] = True

    def __init__(self) -> None:
        super().__init__()

    @classmethod
    def examples(cls) -> list[Activation]:
        """Activations of the class that have between them each of its arguments, the defaults first."""
        return [cls()]

    @classmethod
    def declares(cls, attribute: str) -> bool:
        """Whether an attribute such as ``torch`` describes this class.

        It does not where a subclass computes something else: where it is inherited and ``_compute`` is not.
        """
        for base in cls.__mro__:
            if attribute in vars(base):
                return True
            if "_compute" in vars(base):
                break
        return False

    def _compute(self, x: Array, keep: bool) -> Array:
        out: Array = self.backend.empty(x.shape, x.dtype)
        self.backend.activation_forward(self.kind, self.alpha, x, out)
        if keep:
            self._saved = (x, out)
        return out

    def _gradient(self, dy: Array, need_dx: bool) -> Array | None:
        if not need_dx:
            return None
        assert self._saved is not None
        x, y = self._saved
        dx: Array = self.backend.empty(x.shape, x.dtype)
        self.backend.activation_backward(self.kind, self.alpha, dy, x, y, dx)
        return dx

    def lower(self, builder: PlanBuilder) -> None:
        """An activation."""
        builder.activation(self.kind, self.alpha)

    def settings(self) -> tuple[Any, ...]:
        """The formula and its number."""
        return (self.kind, self.alpha)

    def torch_arguments(self) -> dict[str, Any]:
        """Those of `config`, and ``torch_options``."""
        return {**{name: value for name, value in self.config().items() if name != "type"}, **self.torch_options}

    @classmethod
    def examples_of_width(cls, width: int, dtype: np.dtype[Any], rng: np.random.Generator) -> list[Module]:
        """Those of `examples`: an activation takes any width and dtype."""
        return [*cls.examples()]

    def onnx_nodes(self) -> list[Node]:
        """The ONNX nodes that compute it, one after the other.

        Raises
        ------
        ValueError
            If there is no ONNX for it.
        """
        if self.onnx is None or not self.declares("onnx"):
            raise ValueError(f"There is no ONNX for {type(self).__name__}.")
        operator, opset, attributes = self.onnx
        given = {theirs: getattr(self, ours) for theirs, ours in attributes.items()}
        return [Node(operator, opset, attributes={**given, **self.onnx_expects})]
