"""Optimizer that stores the gradient."""

from __future__ import annotations

from .._common.validation import Array
from .base import Numbers, Optimizer

__all__ = ["KeepGradient"]


class KeepGradient(Optimizer):
    """Optimizer that stores g in the state as ``gradient`` and does not change the parameters, for custom updates."""

    kernel = "keep_gradient"
    trains = False

    def __init__(self) -> None:
        super().__init__(0.0)

    def numbers(self, rates: Array, step: int) -> Numbers:
        """Return the learning rate, which the formula does not use; see `Optimizer.numbers`."""
        return (rates,)
