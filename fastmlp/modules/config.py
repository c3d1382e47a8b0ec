"""Modules from their configs: the built-in types by name, and nothing else."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

from ..errors import ModelFileError
from .base import Module

__all__ = ["TYPES", "module_from_config"]

# type: the file beside this one that defines it; looked up when asked for, as some of them import this.
TYPES = {
    **dict.fromkeys(
        ("ELU", "GELU", "Identity", "LeakyReLU", "ReLU", "SiLU", "Sigmoid", "Softplus", "Tanh"), "activations"
    ),
    "Dropout": "dropout",
    "LayerNorm": "normalization",
    "Linear": "linear",
    "MLP": "mlp",
    "Normalize": "normalization",
    "Sequential": "sequential",
    "Softmax": "softmax",
}


def module_from_config(config: Mapping[str, Any]) -> Module:
    """The module that `Module.config` described, its trained arrays zero until a state is loaded.

    Parameters
    ----------
    config : mapping
        ``{"type": "Linear", "in_features": 64, ...}``, for instance out of a saved file.

    Raises
    ------
    ModelFileError
        If the type is not one of fastmlp's, or the arguments are not ones that it takes.
    """
    kind = config.get("type") if isinstance(config, Mapping) else None
    if not isinstance(kind, str) or kind not in TYPES:
        raise ModelFileError(f"The model has a module of type {kind!r}; expected one of {', '.join(TYPES)}.")
    module_type: type[Module] = getattr(importlib.import_module(f".{TYPES[kind]}", __package__), kind)
    try:
        return module_type.from_config(config)
    except ModelFileError:
        raise
    except (KeyError, MemoryError, OverflowError, RecursionError, TypeError, ValueError) as error:
        raise ModelFileError(f"The model's {kind} cannot be built: {type(error).__name__}: {error}") from error
