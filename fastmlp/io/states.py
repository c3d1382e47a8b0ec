"""Weights from files of other programs: .pt (PyTorch), safetensors and .npz (NumPy), without unpickling objects."""

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
    """Read the arrays of a file by name.

    Parameters
    ----------
    path : path-like
        ``.safetensors`` or ``.npz``; a file with another suffix is read as a state_dict written by ``torch.save``, with
        ``torch.load(weights_only=True)``.

    Returns
    -------
    dict of str to ndarray or torch.Tensor

    Raises
    ------
    ModelFileError
        If the file has another format.
    BackendError
        If the file needs PyTorch, which is not installed.
    OSError
        If the file cannot be read.
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
    except Exception as error:  # the readers raise many types for damaged files
        text = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ModelFileError(
            f"{path} holds no readable weights ({text[:200]}); expected a state_dict as .safetensors, .npz or .pt."
        ) from error


def _torch_state(content: bytes) -> dict[str, Any]:
    torch = library("torch", "pip install torch")
    state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    if not isinstance(state, Mapping):
        raise ValueError(f"it is a {type(state).__name__}, expected a state_dict")
    return dict(state)


def tensor_to_numpy(value: Any) -> Any:
    """Convert a PyTorch tensor to a NumPy array, bfloat16 to float32; return other values unchanged."""
    if not hasattr(value, "detach"):
        return value
    tensor = value.detach().cpu()
    return (tensor.float() if str(tensor.dtype) == "torch.bfloat16" else tensor).numpy()
