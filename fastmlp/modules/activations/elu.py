"""Exponential linear unit."""

from __future__ import annotations

from typing import Any

from ..._common.validation import as_number
from .base import Activation

__all__ = ["ELU"]


class ELU(Activation):
    """Exponential linear unit: h(x) = x if x > 0, else alpha (exp(x) - 1) (Clevert et al., arXiv:1511.07289).

    Parameters
    ----------
    alpha : float
        Any finite number; h'(0) = alpha.

    Raises
    ------
    ValueError
        If alpha is not a finite number.

    Examples
    --------
    >>> import fastmlp as fm
    >>> fm.ELU()([[-1.0, 0.0, 2.0]]).round(4)
    array([[-0.6321,  0.    ,  2.    ]])
    """

    kind = "elu"
    torch = "ELU"
    onnx = ("Elu", 6, {"alpha": "alpha"})
    onnx_runtime_float64 = False
    has_kink = True

    @classmethod
    def examples(cls) -> list[Activation]:
        """Return alphas of each sign."""
        return [cls(), cls(0.7), cls(0.0), cls(-0.7)]

    def __init__(self, alpha: float = 1.0) -> None:
        super().__init__()
        self.alpha = as_number(alpha, "alpha")

    def config(self) -> dict[str, Any]:
        """Return alpha."""
        return {"type": "ELU", "alpha": self.alpha}
