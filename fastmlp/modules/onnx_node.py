"""Node: an ONNX operator, as modules describe themselves to the exporters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from .._common.validation import Array

__all__ = ["Node"]


class Node(NamedTuple):
    """operator(the value so far, constants ...), of the opset in which it came to be as it is here.

    ``with_input``: its second input is the value that the module began with.
    """

    operator: str
    version: int
    constants: tuple[Array, ...] = ()
    attributes: Mapping[str, Any] = {}
    with_input: bool = False
