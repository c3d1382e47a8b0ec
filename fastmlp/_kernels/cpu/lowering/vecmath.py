"""Choice of the constants of `cpu.vecmath` by the type of a vector."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba.core import types
from numba.extending import overload

from ...polynomials import FLOAT32, FLOAT64, Constants
from .. import vecmath
from .simd import VectorType

__all__: list[str] = []


# Strict mode would compare annotations too.
@overload(vecmath.constants, jit_options={"forceinline": True}, strict=False)
def _constants_of_type(v: Any) -> Callable[[Any], Constants] | None:
    if not isinstance(v, VectorType):
        return None
    chosen = FLOAT32 if v.dtype == types.float32 else FLOAT64
    return lambda v: chosen
