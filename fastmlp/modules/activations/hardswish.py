"""Hard-swish."""

from __future__ import annotations

from .base import Activation

__all__ = ["Hardswish"]


class Hardswish(Activation):
    """Hard-swish: h(x) = x min(max(x + 3, 0), 6) / 6; h'(-3) = 0 and h'(3) = 1 (Howard et al., arXiv:1905.02244).

    Examples
    --------
    >>> import fastmlp as fm
    >>> fm.Hardswish()([[-1.0, 0.0, 2.0]]).round(4)
    array([[-0.3333,  0.    ,  1.6667]])
    """

    kind = "hardswish"
    torch = "Hardswish"
    onnx = ("HardSwish", 14, {})
    onnx_runtime_float64 = False
    has_kink = True
    kinks = (-3.0, 3.0)
