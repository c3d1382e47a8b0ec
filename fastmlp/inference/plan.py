"""InferencePlan: a model as the steps of the kernels compiled ahead of time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .._common.validation import Array
from ..modules import Module
from ..modules.lowering import Masks, can_lower, iter_layers

__all__ = ["activation_step", "lower", "require_model"]


def require_model(model: object, where: str, *, sized: bool = False) -> None:
    """Raise ValueError if ``model`` is not a module, or with ``sized`` if it has no fixed width and dtype."""
    if not isinstance(model, Module):
        raise ValueError(f"{where} expected a fastmlp module, got {type(model).__name__}.")
    if sized and (model.in_width is None or model.dtype is None):
        raise ValueError(f"{where} expected a model with a Linear, LayerNorm or Normalize; this one takes any width.")


def activation_step(width: int | None, code: int, alpha: float = 0.0) -> tuple[Any, ...]:
    """Return the step of an activation, see `Plan`."""
    return ("activation", width, code, alpha)


class InferencePlan:
    """The steps of a `Plan`, an activation as part of the product before it; a `PlanBuilder`.

    The code of an activation is its place among ``activations``, that of a function by column among ``columns``;
    ``complete`` tells whether the kernels know all of them.
    """

    def __init__(self, width: int, activations: Sequence[str], columns: Sequence[str]) -> None:
        self.steps: list[tuple[Any, ...]] = []
        self.complete = True
        self._width, self._activations, self._columns = width, activations, columns
        self._identity = activations.index("identity")
        self._arrays: dict[str, Array] = {}

    def add(self, module: Module) -> None:
        """Append the steps of a module."""
        move = module.backend.to_numpy
        self._arrays = {name: move(array) for part in (module.params, module.buffers) for name, array in part.items()}
        module.lower(self)

    def linear(self, outputs: int, weight: str, bias: str | None) -> None:
        """See `PlanBuilder`, as for all that follow."""
        self.steps.append(("linear", self._arrays[weight], bias and self._arrays[bias], self._identity, 0.0))
        self._width = outputs

    def activation(self, kind: str, alpha: float) -> None:
        """Part of the product before, where that has none yet."""
        if kind not in self._activations:
            self.complete = False
            return
        code = self._activations.index(kind)
        if self.steps and self.steps[-1][0] == "linear" and self.steps[-1][3] == self._identity:
            self.steps[-1] = (*self.steps[-1][:3], code, alpha)
        else:
            self.steps.append(activation_step(self._width, code, alpha))

    def normalize(self, mean: str, scale: str) -> None:
        """A step."""
        self.steps.append(("normalize", self._arrays[mean], self._arrays[scale]))

    def columns(self, kind: str, first: str, second: str | None = None) -> None:
        """A step, of a formula that the kernels were built with."""
        if kind not in self._columns:
            self.complete = False
            return
        arrays = (self._arrays[first], second and self._arrays[second])
        self.steps.append(("columns", self._width, self._columns.index(kind), *arrays))

    def layer_norm(self, eps: float, weight: str | None, bias: str | None) -> None:
        """A step."""
        arrays = (weight and self._arrays[weight], bias and self._arrays[bias])
        self.steps.append(("layer_norm", self._width, *arrays, eps))

    def softmax(self) -> None:
        """A step."""
        self.steps.append(("softmax", self._width))

    def dropout(self, rate: float, masks: Masks) -> None:
        """Nothing in evaluation."""


def lower(model: Module, activations: Sequence[str], columns: Sequence[str]) -> list[tuple[Any, ...]] | None:
    """The steps of a `Plan`; None for a model without a width or dtype, or with a module that has none."""
    if model.in_width is None or model.dtype is None:
        return None
    plan = InferencePlan(model.in_width, activations, columns)
    for _, module in iter_layers(model, evaluation=True):
        if not can_lower(module):
            return None
        plan.add(module)
    return plan.steps if plan.complete else None
