"""ONNX operators by which modules describe themselves to the exporters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from .._common.validation import Array
from .lowering import describes

if TYPE_CHECKING:
    from .base import Module

__all__ = ["Node", "onnx_nodes"]


class Node(NamedTuple):
    """ONNX operator applied to (current value, constants ...), with the opset that introduced the present definition.

    ``with_input``: the second input of the operator is the input of the module.
    """

    operator: str
    version: int
    constants: tuple[Array, ...] = ()
    attributes: Mapping[str, Any] = {}
    with_input: bool = False


def onnx_nodes(module: Module) -> list[Node]:
    """Return `Module.onnx_nodes` of a module that implements it.

    Raises
    ------
    ValueError
        If the module has no ONNX description.
    """
    if not describes(module, "onnx_nodes"):
        raise ValueError(f"There is no ONNX for {type(module).__name__}; expected a module with onnx_nodes.")
    return module.onnx_nodes()
