"""Modules: the building blocks of models."""

from __future__ import annotations

from . import activations, init
from .activations import Activation, activation_from_name, activation_names, register_activation
from .base import Module
from .config import module_from_config, register_module
from .dropout import Dropout
from .linear import Linear
from .mlp import MLP
from .normalization import LayerNorm, Normalize
from .sequential import Sequential
from .softmax import Softmax

__all__ = [
    "MLP",
    "Activation",
    "Dropout",
    "LayerNorm",
    "Linear",
    "Module",
    "Normalize",
    "Sequential",
    "Softmax",
    "activation_from_name",
    "activation_names",
    "activations",
    "init",
    "module_from_config",
    "register_activation",
    "register_module",
]
