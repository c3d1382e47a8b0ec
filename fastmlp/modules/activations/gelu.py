"""Gaussian error linear unit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from .base import Activation

__all__ = ["GELU"]


class GELU(Activation):
    """Gaussian error linear unit: h(x) = x Phi(x), Phi the normal CDF (Hendrycks and Gimpel, arXiv:1606.08415).

    Parameters
    ----------
    approximate : {"none", "tanh"}
        ``"tanh"`` computes the approximation x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2.

    Raises
    ------
    ValueError
        If ``approximate`` is neither.

    Examples
    --------
    >>> import fastmlp as fm
    >>> fm.GELU()([[-1.0, 0.0, 2.0]]).round(4)
    array([[-0.1587,  0.    ,  1.9545]])
    """

    torch = "GELU"
    names: ClassVar[Mapping[str, Mapping[str, Any]]] = {"gelu": {}, "gelu_tanh": {"approximate": "tanh"}}
    onnx = ("Gelu", 20, {"approximate": "approximate"})
    onnx_runtime_float64 = False

    @classmethod
    def examples(cls) -> list[Activation]:
        """Return both variants."""
        return [cls(), cls("tanh")]

    def __init__(self, approximate: Literal["none", "tanh"] = "none") -> None:
        super().__init__()
        self.approximate = approximate

    @property
    def approximate(self) -> str:
        """Variant of the formula: "none" or "tanh"."""
        return "none" if self.kind == "gelu" else "tanh"

    @approximate.setter
    def approximate(self, value: str) -> None:
        if value not in ("none", "tanh"):
            raise ValueError(f"approximate is {value!r}; expected 'none' or 'tanh'.")
        self.kind = "gelu" if value == "none" else "gelu_tanh"

    def config(self) -> dict[str, Any]:
        """Return the variant."""
        return {"type": "GELU", "approximate": self.approximate}
