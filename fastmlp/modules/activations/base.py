"""Base class of element-wise activations y = h(x), dx = dy h'(x); at kinks h' has PyTorch's value."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from ..._common.validation import Array
from ..base import Module
from ..lowering import PlanBuilder, describes
from ..onnx_node import Node

__all__ = ["Activation"]


class Activation(Module):
    """Base class of the activations.

    Attributes
    ----------
    kind : str
        Name of the formula, see `_kernels.formulas.activations`.
    alpha : float
        Parameter of the formula.
    has_kink : bool
        Whether the first or second derivative is discontinuous, at the points ``kinks``. Central differences across
        these points do not approximate the derivative.
    names : dict of str to dict
        Names for `activation_from_name`, and the constructor arguments of each; by default ``kind``.
    torch : str
        Class in torch.nn that takes the arguments of `config` under the same names, and ``torch_options``. An imported
        layer must have the attribute values ``torch_expects``.
    onnx : tuple of (str, int, dict of str to str) or None
        Operator, opset that introduced its present definition, and mapping from its attributes to those of this class.
    onnx_expects : dict
        Required values of further attributes of the operator.
    onnx_runtime_float64 : bool
        Whether ONNX Runtime supports float64 for the operator.

    Examples
    --------
    >>> import fastmlp as fm
    >>> issubclass(fm.ReLU, fm.Activation), fm.ReLU.kind
    (True, 'relu')
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
        """Return instances that together vary every argument of the class, the defaults first."""
        return [cls()]

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
        """Append an activation."""
        builder.activation(self.kind, self.alpha)

    def settings(self) -> tuple[Any, ...]:
        """Return the name of the formula and alpha."""
        return (self.kind, self.alpha)

    def torch_arguments(self) -> dict[str, Any]:
        """Return the arguments of `config` and ``torch_options``."""
        return {**{name: value for name, value in self.config().items() if name != "type"}, **self.torch_options}

    @classmethod
    def examples_of_width(cls, width: int, dtype: np.dtype[Any], rng: np.random.Generator) -> list[Module]:
        """Return `examples`, since an activation accepts any width and dtype."""
        return [*cls.examples()]

    def onnx_nodes(self) -> list[Node]:
        """Return the ONNX nodes of the activation, to be applied in sequence.

        Raises
        ------
        ValueError
            If the activation has no ONNX description.
        """
        if self.onnx is None or not describes(self, "onnx"):
            raise ValueError(f"There is no ONNX for {type(self).__name__}.")
        operator, opset, attributes = self.onnx
        given = {theirs: getattr(self, ours) for theirs, ours in attributes.items()}
        return [Node(operator, opset, attributes={**given, **self.onnx_expects})]
