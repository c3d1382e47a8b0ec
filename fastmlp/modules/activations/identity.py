"""The identity."""

from __future__ import annotations

from .base import Activation

__all__ = ["Identity"]


class Identity(Activation):
    """h(x) = x, in a new array."""

    kind = "identity"
    torch = "Identity"
    passes_through = True
