"""Which models, losses and optimizers the engine knows, and what it needs to know of them."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from .._common.validation import Array
from .._kernels.cpu.table import AVERAGE
from .._kernels.formulas.optimizers import MOST_NUMBERS
from ..losses import ElementwiseLoss, Loss, loss_types
from ..losses.cross_entropy import CrossEntropyLoss
from ..modules import MLP, Activation, Dropout, LayerNorm, Linear, Module, Normalize, Sequential, Softmax
from ..modules.activations import activation_types
from ..modules.base import is_plain
from ..optim import Optimizer, is_registered
from ..optim.schedules import Constant

__all__ = [
    "Layer",
    "Unsupported",
    "hyperparameters",
    "layers_of",
    "require_loss",
    "rule",
    "settings",
    "state_kinds",
    "work_of",
]

# By exact type: a class derived from one of these may compute something else.
_LAYERS = (Linear, LayerNorm, Dropout, Softmax, Normalize)


class Unsupported(Exception):
    """Why the engine cannot run something: one sentence."""


class Layer(NamedTuple):
    """A module without modules inside, and the prefix of its arrays' names."""

    prefix: str
    module: Module


def layers_of(model: Module) -> list[Layer]:
    """The model as a list of layers.

    Raises
    ------
    Unsupported
        If one of them is of an unknown class, or none has a width.
    """
    layers: list[Layer] = []
    for prefix, module in model._named_modules():
        if type(module) in (Sequential, MLP):
            continue
        activation = type(module) in activation_types() and is_plain(module, Activation, "_compute", "_gradient")
        if type(module) not in _LAYERS and not activation:
            raise Unsupported(f"the module {type(module).__name__} is not one that the engine knows")
        layers.append(Layer(prefix, module))
    if model.in_width is None or model.dtype is None:
        raise Unsupported("the model has no layer of a fixed width")
    return layers


def require_loss(loss: Loss) -> None:
    """Raise `Unsupported` if the engine does not know the loss."""
    plain = is_plain(loss, ElementwiseLoss, "_call") or type(loss) is CrossEntropyLoss
    if not plain or type(loss) not in loss_types():
        raise Unsupported(f"the loss {type(loss).__name__} is not one that the engine knows")


def work_of(layers: list[Layer], batch: int) -> float:
    """Floating-point operations of a training step: of each product of matrices, twice its multiplications."""
    products = [
        float(layer.module.in_features * layer.module.out_features)
        for layer in layers
        if isinstance(layer.module, Linear)
    ]
    return 2.0 * batch * (3 * sum(products) - products[0]) if products else 0.0


def settings(layers: list[Layer], loss: Loss, optimizer: Optimizer) -> tuple[Any, ...]:
    """What the engine's tables are made of besides the arrays: where it has changed they are made anew."""
    found: list[Any] = []
    for _, module in layers:
        if isinstance(module, Dropout):
            found.append(module.p)
        elif isinstance(module, Normalize):
            arrays = (dict.__getitem__(module.buffers, name) for name in ("mean", "scale"))
            found += [module.backend.to_numpy(array).tobytes() for array in arrays]
        else:
            found += [getattr(module, "alpha", None), getattr(module, "eps", None), getattr(module, "kind", None)]
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
    if not is_plain(optimizer, Optimizer, "_update", "step") or not is_registered(type(optimizer)):
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
