"""Node: an ONNX operator, as modules describe themselves to the exporters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from .._common.validation import Array
from .lowering import describes

if TYPE_CHECKING:
    from .base import Module

__all__ = ["Node", "onnx_nodes"]


class Node(NamedTuple):
    """operator(the value so far, constants ...), of the opset in which it came to be as it is here.

    ``with_input``: its second input is the value that the module began with.
    """

    operator: str
    version: int
    constants: tuple[Array, ...] = ()
    attributes: Mapping[str, Any] = {}
    with_input: bool = False


def onnx_nodes(module: Module) -> list[Node]:
    """`Module.onnx_nodes` of a module that has its own.

    Raises
    ------
    ValueError
        If there is no ONNX for it.
    """
    if not describes(module, "onnx_nodes"):
        raise ValueError(f"There is no ONNX for {type(module).__name__}; expected a module with onnx_nodes.")
    return module.onnx_nodes()
