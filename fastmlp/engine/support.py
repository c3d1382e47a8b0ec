"""Which models, losses and optimizers the engine knows, and what it needs to know of them."""

from __future__ import annotations

from typing import Any

import numpy as np

from .._common.validation import Array
from .._kernels.cpu.table import AVERAGE
from .._kernels.formulas.optimizers import MOST_NUMBERS
from ..losses import Loss, loss_types
from ..modules import Module
from ..modules.config import is_registered_module
from ..modules.lowering import Layer, can_lower, iter_layers
from ..optim import Optimizer, is_registered
from ..optim.schedules import Constant

__all__ = [
    "Unsupported",
    "hyperparameters",
    "layers_of",
    "require_loss",
    "rule",
    "settings",
    "state_kinds",
    "work_of",
]


class Unsupported(Exception):
    """Why the engine cannot run something: one sentence."""


def layers_of(model: Module) -> list[Layer]:
    """The layers of a model that the engine can lay out.

    Raises
    ------
    Unsupported
        If one of them does not lower, or none has a width.
    """
    layers = list(iter_layers(model))
    unknown = [module for module in model.modules() if not is_registered_module(type(module))]
    for module in (*unknown, *(layer.module for layer in layers if not can_lower(layer.module))):
        raise Unsupported(f"the module {type(module).__name__} is not one that the engine knows")
    if model.in_width is None or model.dtype is None:
        raise Unsupported("the model has no layer of a fixed width")
    return layers


def require_loss(loss: Loss) -> None:
    """Raise `Unsupported` if the engine does not know the loss."""
    if not loss.has_kernel or type(loss) not in loss_types():
        raise Unsupported(f"the loss {type(loss).__name__} is not one that the engine knows")


def work_of(layers: list[Layer], batch: int) -> float:
    """Floating-point operations of a training step: of each product of matrices, twice its multiplications."""
    # Read where they are: another trainer of the model may have their numbers.
    arrays = (layer.module.params.local(name) for layer in layers for name in layer.module.params)
    products = [float(array.size) for array in arrays if array.ndim == 2]
    return 2.0 * batch * (3 * sum(products) - products[0]) if products else 0.0


def settings(layers: list[Layer], loss: Loss, optimizer: Optimizer) -> tuple[Any, ...]:
    """What the engine's tables are made of besides the arrays: where it has changed they are made anew."""
    found = (setting for layer in layers for setting in layer.module.settings())
    return (*found, loss.settings(), *optimizer.settings())


def _rates(optimizer: Optimizer, steps: int) -> Array:
    first, schedule = optimizer.steps, optimizer.schedule
    if type(schedule) is Constant:  # a call for each step would cost as much as a small net's step
        return np.full(steps, schedule(first))
    return np.array([schedule(first + step) for step in range(steps)])


def rule(optimizer: Optimizer) -> str:
    """The name of the kernel that updates.

    Raises
    ------
    Unsupported
        If the engine does not know the optimizer.
    """
    if not optimizer.uses_kernel or not is_registered(type(optimizer)):
        raise Unsupported(f"the optimizer {type(optimizer).__name__} is not one that the engine knows")
    return optimizer.kernel


def state_kinds(optimizer: Optimizer) -> list[str | None]:
    """The state's arrays by column of `table`'s params, after the parameter itself; None for one that is not kept."""
    kinds = optimizer.kinds
    average = "average" if optimizer.average is not None else None
    return [*kinds, *[None] * (AVERAGE - 1 - len(kinds)), average]


def hyperparameters(optimizer: Optimizer, steps: int) -> tuple[Array, Array]:
    """(learning rates, the rule's rows of numbers (steps, MOST_NUMBERS)) of the next ``steps`` steps."""
    rates = _rates(optimizer, steps)
    numbers = optimizer.numbers(rates, optimizer.steps + 1)
    table = np.zeros((steps, MOST_NUMBERS))
    table[:, : numbers.shape[1]] = numbers
    return rates, table
