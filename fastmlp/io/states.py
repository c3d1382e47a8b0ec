"""Weights from files of other programs: PyTorch's .pt, safetensors and NumPy's .npz. No code of a file is run."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .._common.errors import BackendError, ModelFileError
from .._common.installed import library

__all__ = ["tensor_to_numpy", "read_state"]


def read_state(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The arrays of a file by name.

    Parameters
    ----------
    path : path-like
        ``.safetensors``, ``.npz``, or otherwise what torch.save wrote of a state_dict, read with
        ``torch.load(weights_only=True)``.

    Raises
    ------
    ModelFileError
        If the file holds something else.
    OSError
        If it cannot be read.
    """
    content = Path(path).read_bytes()
    suffix = Path(path).suffix.lower()
    try:
        if suffix == ".safetensors":
            from safetensors.numpy import load

            return dict(load(content))
        if suffix == ".npz":
            with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
                return {name: arrays[name] for name in arrays.files if not name.startswith("__")}
        return _torch_state(content)
    except BackendError:
        raise
    except Exception as error:  # readers of untrusted bytes raise whatever the bytes lead them to
        text = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ModelFileError(f"{path} holds no weights that can be read ({text[:200]}).") from error


def _torch_state(content: bytes) -> dict[str, Any]:
    torch = library("torch", "pip install torch")
    state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    if not isinstance(state, Mapping):
        raise ValueError(f"it is a {type(state).__name__}, expected a state_dict")
    return dict(state)


def tensor_to_numpy(value: Any) -> Any:
    """A PyTorch tensor as a NumPy array, also one of bfloat16; anything else as it is."""
    if not hasattr(value, "detach"):
        return value
    tensor = value.detach().cpu()
    return (tensor.float() if str(tensor.dtype) == "torch.bfloat16" else tensor).numpy()
