"""Identity."""

from __future__ import annotations

from .base import Activation

__all__ = ["Identity"]


class Identity(Activation):
    """Identity h(x) = x; the output is a new array.

    Examples
    --------
    >>> import fastmlp as fm
    >>> fm.Identity()([[-1.0, 0.0, 2.0]]).round(4)
    array([[-1.,  0.,  2.]])
    """

    kind = "identity"
    torch = "Identity"
    passes_through = True
