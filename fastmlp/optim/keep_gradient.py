"""An optimizer that keeps the gradient and leaves the parameters alone."""

from __future__ import annotations

from .._common.validation import Array
from .base import Optimizer, columns

__all__ = ["KeepGradient"]


class KeepGradient(Optimizer):
    """Leaves the parameters alone and keeps g in the state, as ``gradient``: for who updates them by other means."""

    kernel = "keep_gradient"
    trains = False

    def __init__(self) -> None:
        super().__init__(0.0)

    def numbers(self, rates: Array, step: int) -> Array:
        """The learning rate, which is not used; see `Optimizer.numbers`."""
        return columns(rates)
