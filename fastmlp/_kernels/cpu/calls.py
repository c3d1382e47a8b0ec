"""Calls of compiled functions by their address, with arrays.

Each formula is compiled once, as a function of flat memory. The kernels of the module API and the operations of the
engine call it by its address, so they need not be compiled for each formula. Such a function is f(numbers, pointers,
sizes): the numbers of the call in float64, then the address and finally the size of each array, in order. Without the
JIT, ``function`` is a Python function of the numbers and the arrays.
"""

from __future__ import annotations

import functools
from typing import Any

from .jit import DISABLED, function_pointer, lower

__all__ = [
    "call_activation", "call_activation_backward", "call_class_loss", "call_loss", "call_update", "callable_of",
    "signature_of",
]  # fmt: skip


def call_activation(function, alpha, x, out):
    """Compute out = h(x); arrays of equal size."""
    function(alpha, x, out)


def call_activation_backward(function, alpha, dy, x, y, dx):
    """Compute dx = dy h'(x), with y = h(x); arrays of equal size."""
    function(alpha, dy, x, y, dx)


def call_loss(function, x, target, column_weight, numbers, row_scale, losses, dx):
    """Compute a loss that sums over elements, see `losses.elementwise_function`."""
    function(x, target, column_weight, numbers, row_scale, losses, dx)


def call_class_loss(function, x, index, soft, class_weight, numbers, row_scale, losses, dx, scratch):
    """Compute a loss of class probabilities, see `losses.classwise_function`."""
    function(x, index, soft, class_weight, numbers, row_scale, losses, dx, scratch)


def call_update(function, grad, numbers, first, second, third, param):
    """Update a parameter, see `updates.update_function`."""
    function(grad, numbers, first, second, third, param)


def signature_of(*arrays: str, numbers: int = 0) -> tuple[str, ...]:
    """Return the C signature of a function with arrays of these element types, for `function_pointer`."""
    return (*["float64"] * numbers, *(f"{element}*" for element in arrays), *["int64"] * len(arrays))


def callable_of(pointer: function_pointer, python: functools.partial[None], itemsize: int) -> Any:
    """Return the first argument of a call for arrays of floats with ``itemsize`` bytes.

    That is the address of the compiled function, or ``python`` without the JIT.
    """
    return python if DISABLED else pointer.address(f"float{8 * itemsize}")


lower("calls")
