"""Leaky rectified linear unit."""

from __future__ import annotations

from typing import Any

from ..._common.validation import as_number
from .base import Activation

__all__ = ["LeakyReLU"]


class LeakyReLU(Activation):
    """h(x) = x where x > 0, else negative_slope x; h'(0) = negative_slope (Maas et al., ICML 2013).

    Parameters
    ----------
    negative_slope : float
        Any finite number.

    Raises
    ------
    ValueError
        If it is not one.
    """

    kind = "leaky_relu"
    torch = "LeakyReLU"
    onnx = ("LeakyRelu", 6, {"alpha": "negative_slope"})
    has_kink = True

    def __init__(self, negative_slope: float = 0.01) -> None:
        super().__init__()
        self.alpha = self.negative_slope = as_number(negative_slope, "negative_slope")

    def config(self) -> dict[str, Any]:
        """The slope."""
        return {"type": "LeakyReLU", "negative_slope": self.negative_slope}
