"""Which models, losses and optimizers the engine knows, and what it needs to know of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from .._kernels.cpu.table import AVERAGE
from ..losses import (
    BCEWithLogitsLoss,
    CrossEntropyLoss,
    HuberLoss,
    L1Loss,
    LogCoshLoss,
    Loss,
    MSELoss,
    PoissonLoss,
    QuantileLoss,
)
from ..modules import MLP, Dropout, LayerNorm, Linear, Module, Normalize, Sequential, Softmax
from ..modules.activations import ELU, GELU, Identity, LeakyReLU, ReLU, Sigmoid, SiLU, Softplus, Tanh
from ..optim import SGD, Adagrad, Adam, AdamW, KeepGradient, Optimizer, RMSprop
from ..schedules import Constant
from ..validation import Array

__all__ = [
    "ELEMENTWISE",
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
_ACTIVATIONS = (ELU, GELU, Identity, LeakyReLU, ReLU, SiLU, Sigmoid, Softplus, Tanh)
_LAYERS = (Linear, LayerNorm, Dropout, Softmax, Normalize, *_ACTIVATIONS)
# class: the name of the kernel's formula
ELEMENTWISE: dict[type, str] = {
    BCEWithLogitsLoss: "bce",
    HuberLoss: "huber",
    L1Loss: "l1",
    LogCoshLoss: "log_cosh",
    MSELoss: "mse",
    PoissonLoss: "poisson",
    QuantileLoss: "quantile",
}


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
        if type(module) not in _LAYERS:
            raise Unsupported(f"the module {type(module).__name__} is not one that the engine knows")
        layers.append(Layer(prefix, module))
    if model.in_width is None or model.dtype is None:
        raise Unsupported("the model has no layer of a fixed width")
    return layers


def require_loss(loss: Loss) -> None:
    """Raise `Unsupported` if the engine does not know the loss."""
    if type(loss) is not CrossEntropyLoss and type(loss) not in ELEMENTWISE:
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
    for name in ("label_smoothing", "from_logits", "delta", "quantile"):
        found.append(getattr(loss, name, None))
    for name in ("class_weight", "pos_weight"):
        weight = getattr(loss, name, None)
        found.append(None if weight is None else weight.tobytes())
    for name in ("momentum", "centered"):  # without them there is one array less
        found.append(bool(getattr(optimizer, name, False)))
    return (*found, optimizer.clip_norm, optimizer.clip_value, optimizer.average)


def _rates(optimizer: Optimizer, steps: int) -> Array:
    first, schedule = optimizer.steps, optimizer.schedule
    if type(schedule) is Constant:  # a call for each step would cost as much as a small net's step
        return np.full(steps, schedule(first))
    return np.array([schedule(first + step) for step in range(steps)])


def _sgd(optimizer: Any, rates: Array) -> Array:
    rest = (optimizer.momentum, optimizer.weight_decay, float(optimizer.nesterov))
    return _table(rates, rest)


def _adam(optimizer: Any, rates: Array) -> Array:
    first, second = optimizer.betas
    rest = (first, second, optimizer.eps, optimizer.weight_decay, float(optimizer._decoupled), 0.0, 0.0)
    table = _table(rates, rest)
    for row in range(len(rates)):
        step = optimizer.steps + 1 + row
        table[row, 6], table[row, 7] = 1 - first**step, math.sqrt(1 - second**step)
    return table


def _rmsprop(optimizer: Any, rates: Array) -> Array:
    rest = (optimizer.alpha, optimizer.eps, optimizer.weight_decay, optimizer.momentum)
    return _table(rates, rest)


def _adagrad(optimizer: Any, rates: Array) -> Array:
    table = _table(rates, (optimizer.eps, optimizer.weight_decay))
    table[:, 0] /= 1 + (optimizer.steps + np.arange(len(rates))) * optimizer.lr_decay
    return table


def _table(rates: Array, rest: tuple[float, ...]) -> Array:
    table = np.empty((len(rates), 1 + len(rest)))
    table[:, 0], table[:, 1:] = rates, rest
    return table


# class: (name of the kernel's rule, its row of numbers, the state's arrays in the order in which the rule takes them)
_RULES: dict[type, tuple[str, Callable[..., Array], tuple[str, ...]]] = {
    SGD: ("sgd", _sgd, ("velocity",)),
    Adam: ("adam", _adam, ("mean", "square")),
    AdamW: ("adam", _adam, ("mean", "square")),
    RMSprop: ("rmsprop", _rmsprop, ("square", "mean", "velocity")),
    Adagrad: ("adagrad", _adagrad, ("total",)),
    KeepGradient: ("keep", lambda optimizer, rates: _table(rates, ()), ("gradient",)),
}


def rule(optimizer: Optimizer) -> str:
    """The name of the kernel that updates.

    Raises
    ------
    Unsupported
        If the engine does not know the optimizer.
    """
    if type(optimizer) not in _RULES:
        raise Unsupported(f"the optimizer {type(optimizer).__name__} is not one that the engine knows")
    return _RULES[type(optimizer)][0]


def state_kinds(optimizer: Optimizer) -> list[str | None]:
    """The state's arrays by column of `table`'s params, after the parameter itself; None for one that is not kept."""
    kept = optimizer.state_names
    kinds = [kind if kind in kept else None for kind in _RULES[type(optimizer)][2]]
    return [*kinds, *[None] * (AVERAGE - 1 - len(kinds)), "average" if "average" in kept else None]


def hyperparameters(optimizer: Optimizer, steps: int) -> tuple[Array, Array]:
    """(learning rates, the rule's rows of numbers) of the next ``steps`` steps."""
    rates = _rates(optimizer, steps)
    return rates, _RULES[type(optimizer)][1](optimizer, rates)
