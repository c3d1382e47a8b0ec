"""Queries on models, losses and optimizers: engine support, work of a step, settings of the tables."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from .._common.validation import Array
from .._kernels.cpu.table import AVERAGE
from .._kernels.formulas.optimizers import MOST_NUMBERS
from ..losses import Loss, loss_types
from ..modules import Module
from ..modules.config import is_registered_module
from ..modules.lowering import Layer, can_lower, iter_layers
from ..optim import Optimizer, is_registered
from ..optim.base import columns
from ..optim.schedules import Constant

__all__ = [
    "Pieces",
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
    """Reports that the engine does not support a model, loss or optimizer; the message is one clause."""


class Pieces(NamedTuple):
    """Pieces ``first`` to ``end - 1`` of ``total`` of a batch; ``reducer`` adds over ranks, or is 0."""

    first: int
    end: int
    total: int
    reducer: int


def layers_of(model: Module) -> list[Layer]:
    """Return the layers of a model that the engine supports.

    Raises
    ------
    Unsupported
        If a layer cannot be lowered, or no layer has a fixed width.
    """
    layers = list(iter_layers(model))
    unknown = [module for module in model.modules() if not is_registered_module(type(module))]
    for module in (*unknown, *(layer.module for layer in layers if not can_lower(layer.module))):
        raise Unsupported(f"the module {type(module).__name__} is not one that the engine knows")
    trained = False
    for layer in layers:
        if trained and layer.module.reads_features:
            raise Unsupported(f"the module {type(layer.module).__name__} is not the first one that has parameters")
        trained = trained or bool(layer.module.params)
    if model.in_width is None or model.dtype is None:
        raise Unsupported("the model has no layer of a fixed width")
    return layers


def require_loss(loss: Loss) -> None:
    """Raise `Unsupported` if the engine does not support the loss."""
    if not loss.uses_kernel or type(loss) not in loss_types():
        raise Unsupported(f"the loss {type(loss).__name__} is not one that the engine knows")


def work_of(layers: list[Layer], batch: int) -> float:
    """Return the floating-point operations of a training step: two per multiplication of the matrix products.

    The few rows of a table that a step reads are left out.
    """
    # `local` avoids a synchronization, since another trainer of the model may own the numbers.
    modules = [layer.module for layer in layers]
    arrays = (module.params.local(name) for module in modules for name in module.params if name not in module.tables)
    products = [float(array.size) for array in arrays if array.ndim == 2]
    return 2.0 * batch * (3 * sum(products) - products[0]) if products else 0.0


def settings(layers: list[Layer], loss: Loss, optimizer: Optimizer) -> tuple[Any, ...]:
    """Return the values besides arrays that the tables depend on; a change makes the engine rebuild them."""
    found = (setting for layer in layers for setting in layer.module.settings())
    return (*found, loss.settings(), *optimizer.settings())


def _rates(optimizer: Optimizer, steps: int) -> Array:
    first, schedule = optimizer.steps, optimizer.schedule
    if type(schedule) is Constant:  # a call per step would cost as much as a step of a small network
        return np.full(steps, schedule(first))
    return np.array([schedule(first + step) for step in range(steps)])


def rule(optimizer: Optimizer) -> str:
    """Return the name of the optimizer's update kernel.

    Raises
    ------
    Unsupported
        If the engine does not support the optimizer.
    """
    if not optimizer.uses_kernel or not is_registered(type(optimizer)):
        raise Unsupported(f"the optimizer {type(optimizer).__name__} is not one that the engine knows")
    return optimizer.kernel


def state_kinds(optimizer: Optimizer) -> list[str | None]:
    """Return the names of the states by column of `table`'s params, after the parameter; None for an unused column."""
    kinds = optimizer.kinds
    average = "average" if optimizer.average is not None else None
    return [*kinds, *[None] * (AVERAGE - 1 - len(kinds)), average]


def hyperparameters(optimizer: Optimizer, steps: int) -> tuple[Array, Array]:
    """Return (learning rates (S,), update numbers (S, groups * MOST_NUMBERS)) of the next ``steps`` steps.

    The numbers of parameters without a group come first, see `Optimizer.numbers_by_group`.
    """
    rates = _rates(optimizer, steps)
    tables = [columns(found, steps, MOST_NUMBERS) for found in optimizer.numbers_by_group(rates, optimizer.steps + 1)]
    return rates, tables[0] if len(tables) == 1 else np.concatenate(tables, axis=1)
