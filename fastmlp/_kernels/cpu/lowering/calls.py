"""LLVM code of the calls in `cpu.calls`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba.core import types

from .. import calls
from .native import call_address
from .simd import operation

__all__: list[str] = []


def _call(meaning: Callable[..., None], arrays: int, numbers: int = 0) -> None:
    @operation(
        meaning, lambda *args: types.none, types.Integer, *[types.Float] * numbers, *[types.Array] * arrays
    )  # fmt: skip
    def lower(context: Any, builder: Any, sig: Any, values: Any) -> Any:
        stop = 1 + numbers
        given = [context.cast(builder, values[i], sig.args[i], types.float64) for i in range(1, stop)]
        found = [
            context.make_array(kind)(context, builder, value) for kind, value in zip(sig.args[stop:], values[stop:])
        ]
        given += [array.data for array in found] + [array.nitems for array in found]
        return call_address(context, builder, sig.args[0], values[0], given)


_call(calls.call_activation, 2, numbers=1)
_call(calls.call_activation_backward, 4, numbers=1)
_call(calls.call_loss, 7)
_call(calls.call_class_loss, 9)
_call(calls.call_update, 6)
