"""Identity."""

from __future__ import annotations

from .base import Activation

__all__ = ["Identity"]


class Identity(Activation):
    """Identity h(x) = x; the output is a new array."""

    kind = "identity"
    torch = "Identity"
    passes_through = True
