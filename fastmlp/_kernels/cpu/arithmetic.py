"""Compiled versions of `_common.arithmetic` for use in kernels."""

from __future__ import annotations

from ..._common import arithmetic
from .jit import inline

__all__ = ["ceil_div"]

ceil_div = inline(arithmetic.ceil_div)
