"""Small arithmetic that Python and compiled code share."""

from __future__ import annotations

from typing import Any, overload

__all__ = ["CLIP_EPSILON", "ceil_div"]

# Added to a norm before gradients are scaled by limit / norm, as in PyTorch's clip_grad_norm_.
CLIP_EPSILON = 1e-6


@overload
def ceil_div(a: int, b: int) -> int: ...
@overload
def ceil_div(a: Any, b: Any) -> Any: ...
def ceil_div(a: Any, b: Any) -> Any:
    """a / b of integers, or of arrays of them, rounded up."""
    return -(-a // b)
