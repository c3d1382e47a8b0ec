"""InferencePlan: a model as the steps of compiled kernels."""

from __future__ import annotations

from typing import Any

import numpy as np

from .._common.validation import Array
from .._kernels.formulas import is_registered
from .._kernels.reference_binned import sums_and_rows
from ..modules import Module
from ..modules.lowering import Masks, can_lower, iter_layers
from .kernels import Kernels

__all__ = ["InferencePlan", "lower", "require_model"]


def require_model(model: object, where: str, *, sized: bool = False) -> None:
    """Raise ValueError if ``model`` is not a module, or with ``sized`` if it has no fixed width and dtype."""
    if not isinstance(model, Module):
        raise ValueError(f"{where} expected a fastmlp module, got {type(model).__name__}.")
    if sized and (model.in_width is None or model.dtype is None):
        raise ValueError(f"{where} expected a model with a Linear, LayerNorm or Normalize; this one takes any width.")


class InferencePlan:
    """Steps of a `Plan`, with an activation as part of the product before it; a `PlanBuilder`.

    ``complete`` tells whether there are kernels of all formulas, which those registered by users have not.

    Parameters
    ----------
    kernels : Kernels
    width : int
        Columns of the inputs.
    dtype : numpy.dtype
        Dtype of the model.
    """

    def __init__(self, kernels: Kernels, width: int, dtype: Any) -> None:
        self.steps: list[tuple[Any, ...]] = []
        self.complete = True
        self._kernels, self._inputs, self._width, self._dtype = kernels, width, width, np.dtype(dtype)
        self._arrays: dict[str, Array] = {}

    def compile(self, threads: int = 1, row_threads: int = 1) -> Any:
        """Return the steps as a `Plan`."""
        return self._kernels.plan(self._inputs, self._dtype, self.steps, threads, row_threads)

    def add(self, module: Module) -> None:
        """Append the steps of a module."""
        move = module.backend.to_numpy
        self._arrays = {name: move(array) for part in (module.params, module.buffers) for name, array in part.items()}
        module.lower(self)

    def linear(self, outputs: int, weight: str, bias: str | None) -> None:
        """See `PlanBuilder`, as for all that follow."""
        packed = self._kernels.packed(self._arrays[weight].astype(self._dtype, copy=False))
        begin = self._kernels.padded(self._array(bias), outputs, self._dtype)
        self.steps.append(("linear", self._width, outputs, packed, begin, -np.inf, 0, 0.0))
        self._width = outputs

    def binned_linear(self, outputs: int, bins: Array, weight: str, table: str, bias: str | None) -> None:
        """A step, with the rows of the table and their running sums padded to whole vectors."""
        packed = self._kernels.packed(self._arrays[weight].astype(self._dtype, copy=False))
        rows = sums_and_rows(self._arrays[table].astype(self._dtype, copy=False), bins)
        begin = self._kernels.padded(self._array(bias), outputs, self._dtype)
        room = np.zeros((*rows.shape[:2], len(begin)), self._dtype)
        room[..., :outputs] = rows
        address = self._kernels.address("inference", "binned_rows", self._dtype)
        self.steps.append(
            ("binned", self._width - len(bins), outputs, packed, begin, address, bins, room.reshape(-1))
        )  # fmt: skip
        self._width = outputs

    def activation(self, kind: str, alpha: float) -> None:
        """Part of the product before, where that has none yet."""
        if is_registered("activations", kind):
            self.complete = False
            return
        if kind == "identity":
            return
        if self.steps and self.steps[-1][0] == "linear" and self.steps[-1][5:7] == (-np.inf, 0):
            product = self.steps.pop()[:5]
            if kind == "relu":
                self.steps.append((*product, 0.0, 0, 0.0))
            else:
                self.steps.append((*product, -np.inf, self._kernels.activation(kind, self._dtype), alpha))
        else:
            self.steps.append(("activation", self._width, self._kernels.activation(kind, self._dtype), alpha))

    def normalize(self, mean: str, scale: str) -> None:
        """A step."""
        self._row("normalized_row", self._arrays[mean], self._arrays[scale])

    def columns(self, kind: str, first: str, second: str | None = None) -> None:
        """A step, if the formula is one of the package."""
        if is_registered("columns", kind):
            self.complete = False
            return
        self._row("columns_row", self._arrays[first], self._array(second), made_with=(kind,))

    def layer_norm(self, eps: float, weight: str | None, bias: str | None) -> None:
        """A step."""
        factor = np.ones(self._width) if weight is None else self._arrays[weight]
        self._row("layer_norm_row", factor, self._array(bias), eps)

    def softmax(self) -> None:
        """A step."""
        self._row("softmax_row")

    def dropout(self, rate: float, masks: Masks) -> None:
        """Nothing in evaluation."""

    def _array(self, name: str | None) -> Array | None:
        return None if name is None else self._arrays[name]

    def _row(
        self,
        function: str,
        first: Array | None = None,
        second: Array | None = None,
        number: float = 0.0,
        *,
        made_with: tuple[str, ...] = (),
    ) -> None:
        """Append a function of a row with two vectors of parameters."""
        vectors = (self._kernels.padded(one, self._width, self._dtype) for one in (first, second))
        address = self._kernels.row_function(function, self._dtype, *made_with)
        self.steps.append(("row", self._width, address, *vectors, number))


def lower(kernels: Kernels, model: Module) -> InferencePlan | None:
    """Return the plan of a model; None if it has no width or dtype, or a module or formula without kernels."""
    if model.in_width is None or model.dtype is None:
        return None
    plan = InferencePlan(kernels, model.in_width, model.dtype)
    for _, module in iter_layers(model, evaluation=True):
        if not can_lower(module):
            return None
        plan.add(module)
    return plan if plan.complete else None
