"""Lowering: modules describe themselves as operations of a plan, and models as lists of layers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Protocol

from .._common.validation import Array
from .base import Module
from .config import is_registered_module

__all__ = ["CBody", "Layer", "Masks", "PlanBuilder", "can_lower", "describes", "iter_layers"]

# Methods that decide what a module computes.
_COMPUTING = frozenset({"__call__", "forward", "infer", "backward", "_compute", "_gradient", "compute_with"})


class Masks(Protocol):
    """Source of a dropout's masks: a seed, and the number of the layer."""

    layer: int

    seed: int

    def set_position(self, seed: int | None = None, step: int | None = None) -> None:
        """Set the seed and the step of the next mask."""


class PlanBuilder(Protocol):
    """A plan under construction: each operation takes the result of the one before.

    The CPU plan, the GPU plan, the inference plan and the C export implement it. Arrays are given by their names among
    the parameters and buffers of the module that is being lowered.
    """

    def linear(self, outputs: int, weight: str, bias: str | None) -> None:
        """Y = X Wᵀ + b; an activation right after it runs as its epilogue."""

    def activation(self, kind: str, alpha: float) -> None:
        """y = h(x, alpha), ``kind`` a name of `_kernels.formulas.activations`."""

    def normalize(self, mean: str, scale: str) -> None:
        """y = (x - mean) / scale by column."""

    def layer_norm(self, eps: float, weight: str | None, bias: str | None) -> None:
        """y = (x - mean) / sqrt(var + eps) weight + bias by row."""

    def columns(self, kind: str, first: str, second: str | None = None) -> None:
        """y = f(x, a, b) by column, ``kind`` a name of `_kernels.formulas.columns`.

        The arrays a and b are parameters or buffers; a buffer does not come before a parameter.
        """

    def softmax(self) -> None:
        """Softmax by row."""

    def dropout(self, rate: float, masks: Masks) -> None:
        """Dropout; nothing in a plan for evaluation."""


class CBody(PlanBuilder, Protocol):
    """A C function under construction, which turns one row into another; operations append to it as to a plan."""

    def function(self, text: str) -> None:
        """Define a C function, once; ``T`` is the type of its numbers, ``S`` the suffix of literals and of math.h.

        Such as ``static void twice(T *x, int n) { for (int i = 0; i < n; i++) x[i] = fabsS(2.0S * x[i]); }``.
        """

    def constant(self, array: Array | None) -> str:
        """The name of a constant array; ``"0"`` for None."""

    def number(self, value: float) -> str:
        """A number as a literal."""

    def call(self, name: str, *arguments: str) -> None:
        """Call name(row, width, arguments ...), which changes the row in place."""

    def call_into(self, outputs: int, name: str, *arguments: str) -> None:
        """Call name(row, width, outputs, arguments ..., other row): the other row, of ``outputs`` numbers, goes on."""


class Layer(NamedTuple):
    """A module without modules inside, and the prefix of its arrays' names."""

    prefix: str
    module: Module


def describes(module: Module, name: str) -> bool:
    """Whether a module's attribute ``name`` tells what the module computes.

    It does not where `Module` alone has it, or where a class derived from the one that defines it computes otherwise.
    """
    for kind in type(module).__mro__:
        if name in vars(kind):
            return kind is not Module
        if not _COMPUTING.isdisjoint(vars(kind)):
            return False
    return False


def can_lower(module: Module) -> bool:
    """Whether a plan may take a module: its class is registered, and its `Module.lower` tells what it computes."""
    return is_registered_module(type(module)) and describes(module, "lower")


def iter_layers(model: Module, *, evaluation: bool = False, prefix: str = "") -> Iterator[Layer]:
    """The layers of a model in the order in which they compute.

    A container that computes otherwise than its children one after the other is a layer itself. With ``evaluation``,
    layers that then give what they take are left out.
    """
    if model.is_container and describes(model, "is_container"):
        for name, child in model.children():
            yield from iter_layers(child, evaluation=evaluation, prefix=f"{prefix}{name}.")
    elif not (evaluation and model.passes_through and describes(model, "passes_through")):
        yield Layer(prefix, model)
