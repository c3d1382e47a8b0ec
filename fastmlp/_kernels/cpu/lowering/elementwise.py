"""LLVM code of `cpu.elementwise.apply`."""

from __future__ import annotations

from typing import Any

from numba.core import types

from ..elementwise import apply
from .native import call_address
from .simd import operation

__all__: list[str] = []


@operation(apply, lambda *args: types.none, types.Integer, types.Float, types.Array, types.Array)
def _lower_apply(context: Any, builder: Any, sig: Any, values: Any) -> Any:
    x, out = (context.make_array(sig.args[i])(context, builder, values[i]) for i in (2, 3))
    given = [context.cast(builder, values[1], sig.args[1], types.float64), x.data, out.data, x.nitems]
    return call_address(context, builder, sig.args[0], values[0], given)
