"""Scaled exponential linear unit."""

from __future__ import annotations

from ..._kernels.formulas.activations.selu import ALPHA, SCALE
from .base import Activation

__all__ = ["SELU"]


class SELU(Activation):
    """Scaled ELU: h(x) = s x if x > 0, else s a (exp(x) - 1); h'(0) = s a (Klambauer et al., arXiv:1706.02515).

    Examples
    --------
    >>> import fastmlp as fm
    >>> fm.SELU()([[-1.0, 0.0, 2.0]]).round(4)
    array([[-1.1113,  0.    ,  2.1014]])
    """

    kind = "selu"
    torch = "SELU"
    onnx = ("Selu", 6, {})
    onnx_expects = {"alpha": ALPHA, "gamma": SCALE}
    onnx_runtime_float64 = False
    has_kink = True
