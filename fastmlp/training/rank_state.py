"""State that rank 0 shares with the other ranks of a fit: weights and the optimizer's state, without pickle."""

from __future__ import annotations

import json

import numpy as np

from .._common.validation import Array
from ..modules import Module
from ..optim import Optimizer

__all__ = ["pack_state", "require_cpu", "unpack_state"]

_REST = "rest"  # of the optimizer's state, as JSON


def require_cpu(model: Module) -> None:
    """Raise ValueError unless the model is on the CPU."""
    if model.backend_name == "cuda":
        raise ValueError("The model is on the backend 'cuda'; group and pieces are for the CPU, such as 'numba'.")


def pack_state(model: Module, optimizer: Optimizer) -> bytes:
    """Return the weights and the state of the optimizer as bytes."""
    from safetensors.numpy import save

    state = optimizer.state_dict()
    arrays = {f"model/{name}": array for name, array in model.state_dict().items()}
    for name, kinds in state["state"].items():
        arrays |= {f"state/{kind}/{name}": array for kind, array in kinds.items()}
    rest = json.dumps({key: value for key, value in state.items() if key != "state"}).encode()
    arrays[_REST] = np.frombuffer(rest, np.uint8)
    return bytes(save({name: np.ascontiguousarray(array) for name, array in arrays.items()}))


def unpack_state(data: bytes, model: Module, optimizer: Optimizer) -> None:
    """Set the weights and the state that `pack_state` returned."""
    from safetensors.numpy import load

    arrays = load(data)
    rest = json.loads(arrays.pop(_REST).tobytes())
    weights: dict[str, Array] = {}
    state: dict[str, dict[str, Array]] = {name: {} for name, _ in model.named_parameters()}
    for key, array in arrays.items():
        kind, name = key.split("/", 1)
        if kind == "model":
            weights[name] = array
        else:
            kind, name = name.split("/", 1)
            state[name][kind] = array
    model.load_state_dict(weights)
    optimizer.load_state_dict({**rest, "state": state})
