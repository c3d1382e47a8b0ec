"""Lowering: interface between modules and plans, and iteration over the layers of a model."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Protocol

from .._common.validation import Array
from .base import Module
from .config import is_registered_module

__all__ = ["CBody", "Layer", "Masks", "PlanBuilder", "can_lower", "describes", "iter_layers"]

# Methods that define the function of a module.
_COMPUTING = frozenset({"__call__", "forward", "infer", "backward", "_compute", "_gradient", "compute_with"})


class Masks(Protocol):
    """Source of dropout masks: a seed and the index of the layer."""

    layer: int

    seed: int

    def set_position(self, seed: int | None = None, step: int | None = None) -> None:
        """Set the seed and the step of the next mask."""


class PlanBuilder(Protocol):
    """Plan under construction: each operation takes the result of the previous one.

    Implementations are the CPU plan, the GPU plan, the inference plan and the C export. Arrays are given by their names
    among the parameters and buffers of the module that is being lowered.
    """

    def linear(self, outputs: int, weight: str, bias: str | None) -> None:
        """Append Y = X Wᵀ + b; an activation right after it runs as its epilogue."""

    def binned_linear(self, outputs: int, bins: Array, weight: str, table: str, bias: str | None) -> None:
        """Append Y = code(X) [weight table]ᵀ + b, see `_kernels.reference_binned`."""

    def activation(self, kind: str, alpha: float) -> None:
        """Append y = h(x, alpha); ``kind`` is a name of `_kernels.formulas.activations`."""

    def normalize(self, mean: str, scale: str) -> None:
        """Append y = (x - mean) / scale by column."""

    def layer_norm(self, eps: float, weight: str | None, bias: str | None) -> None:
        """Append y = (x - mean) / sqrt(var + eps) weight + bias by row."""

    def columns(self, kind: str, first: str, second: str | None = None) -> None:
        """Append y = f(x, a, b) by column; ``kind`` is a name of `_kernels.formulas.columns`.

        The arrays a and b are parameters or buffers; a buffer may not come before a parameter.
        """

    def softmax(self) -> None:
        """Append a softmax by row."""

    def dropout(self, rate: float, masks: Masks) -> None:
        """Append a dropout; a plan for evaluation omits it."""


class CBody(PlanBuilder, Protocol):
    """C function under construction that maps one row to another; operations are appended as to a plan."""

    def function(self, text: str) -> None:
        """Define a C function once; ``T`` is the number type, ``S`` the suffix of literals and math.h functions.

        For example ``static void twice(T *x, int n) { for (int i = 0; i < n; i++) x[i] = fabsS(2.0S * x[i]); }``.
        """

    def constant(self, array: Array | None) -> str:
        """Define a constant array and return its name; return ``"0"`` for None."""

    def number(self, value: float) -> str:
        """Format a number as a C literal."""

    def call(self, name: str, *arguments: str) -> None:
        """Call name(row, width, arguments ...), which changes the row in place."""

    def call_into(self, outputs: int, name: str, *arguments: str) -> None:
        """Call name(row, width, outputs, arguments ..., output); the output row of this size replaces the row."""


class Layer(NamedTuple):
    """Module without children, and the prefix of its array names."""

    prefix: str
    module: Module


def describes(module: Module | type[Module], name: str) -> bool:
    """Return whether the attribute ``name`` of a module or class describes the function that it computes.

    It does not if only `Module` defines the attribute, or if a subclass of the defining class overrides the
    computation.
    """
    for kind in (module if isinstance(module, type) else type(module)).__mro__:
        if name in vars(kind):
            return kind is not Module
        if not _COMPUTING.isdisjoint(vars(kind)):
            return False
    return False


def can_lower(module: Module) -> bool:
    """Return whether plans support a module: its class is registered and its `Module.lower` describes the function."""
    return is_registered_module(type(module)) and describes(module, "lower")


def iter_layers(model: Module, *, evaluation: bool = False, prefix: str = "") -> Iterator[Layer]:
    """Iterate over the layers of a model in order of computation.

    A container that does not apply its children in order is a layer itself. With ``evaluation``, layers that are the
    identity in evaluation mode are omitted.
    """
    if model.is_container and describes(model, "is_container"):
        for name, child in model.children():
            yield from iter_layers(child, evaluation=evaluation, prefix=f"{prefix}{name}.")
    elif not (evaluation and model.passes_through and describes(model, "passes_through")):
        yield Layer(prefix, model)
