"""Leaky rectified linear unit."""

from __future__ import annotations

from typing import Any

from ..._common.validation import as_number
from .base import Activation

__all__ = ["LeakyReLU"]


class LeakyReLU(Activation):
    """Leaky ReLU: h(x) = x if x > 0, else negative_slope x; h'(0) = negative_slope (Maas et al., ICML 2013).

    Parameters
    ----------
    negative_slope : float
        Any finite number.

    Raises
    ------
    ValueError
        If negative_slope is not a finite number.

    Examples
    --------
    >>> import fastmlp as fm
    >>> fm.LeakyReLU(0.1)([[-1.0, 0.0, 2.0]]).round(4)
    array([[-0.1,  0. ,  2. ]])
    """

    kind = "leaky_relu"
    torch = "LeakyReLU"
    onnx = ("LeakyRelu", 6, {"alpha": "negative_slope"})
    onnx_runtime_float64 = False
    has_kink = True

    @classmethod
    def examples(cls) -> list[Activation]:
        """Return slopes of each sign."""
        return [cls(), cls(0.2), cls(0.0), cls(-0.3)]

    def __init__(self, negative_slope: float = 0.01) -> None:
        super().__init__()
        self.negative_slope = negative_slope

    @property
    def negative_slope(self) -> float:
        """Slope below 0: the alpha of the formula."""
        return self.alpha

    @negative_slope.setter
    def negative_slope(self, value: float) -> None:
        self.alpha = as_number(value, "negative_slope")

    def config(self) -> dict[str, Any]:
        """Return the slope."""
        return {"type": "LeakyReLU", "negative_slope": self.negative_slope}
