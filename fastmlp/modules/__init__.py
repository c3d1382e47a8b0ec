"""The modules that models are made of."""

from .activations import ELU, GELU, Activation, Identity, LeakyReLU, ReLU, Sigmoid, SiLU, Softplus, Tanh
from .base import Module
from .config import module_from_config
from .dropout import Dropout
from .linear import Linear
from .mlp import MLP
from .normalization import LayerNorm, Normalize
from .sequential import Sequential
from .softmax import Softmax

__all__ = [
    "ELU",
    "GELU",
    "MLP",
    "Activation",
    "Dropout",
    "Identity",
    "LayerNorm",
    "LeakyReLU",
    "Linear",
    "Module",
    "Normalize",
    "ReLU",
    "Sequential",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Softplus",
    "Tanh",
    "module_from_config",
]
