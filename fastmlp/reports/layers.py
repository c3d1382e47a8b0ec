"""Weights of a model and the outputs of its layers, for histograms."""

from __future__ import annotations

from typing import Any

import numpy as np

from .._common.validation import Array
from ..modules import Module, Sequential

__all__ = ["layer_outputs", "layer_weights"]


def layer_weights(model: Module) -> dict[str, Array]:
    """Return the weights of each layer, flattened, without biases and buffers."""
    return {
        name: array.ravel() for name, array in model.state_dict().items() if name.endswith("weight") and array.ndim == 2
    }


def layer_outputs(model: Module, X: Any) -> dict[str, Array]:
    """Return the outputs of each activation and of the last layer for rows X (N, I), flattened.

    A model that is not a `Sequential` has its outputs alone.
    """
    if not isinstance(model, Sequential):
        return {"outputs": np.asarray(model.infer(X)).ravel()}
    found: dict[str, Array] = {}
    last = len(model) - 1
    for number, module in enumerate(model):
        X = module.infer(X)
        if number == last:
            found["outputs"] = np.asarray(X).ravel()
        elif hasattr(module, "has_kink"):  # an activation
            found[f"{number} {type(module).__name__}"] = np.asarray(X).ravel()
    return found
