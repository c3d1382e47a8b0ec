"""NumPy: the arrays of a model in one .npz file."""

from __future__ import annotations

import json
import os

import numpy as np

from ..inference.plan import require_model
from ..io.files import atomic_write
from ..modules import Module

__all__ = ["export_npz"]


def export_npz(model: Module, path: str | os.PathLike[str]) -> None:
    """Write ``state_dict()`` as a .npz file: the arrays by name, and ``__model__``, the config as JSON text.

    ``np.load(path)`` reads it, and so does ``model.load_state_dict(path)``.

    Parameters
    ----------
    model : Module
    path : path-like
        The file, which appears whole or not at all.

    Raises
    ------
    ValueError
        If ``model`` is something else.
    OSError
        If the file cannot be written.
    """
    require_model(model, "export_npz")
    with atomic_write(path) as stream:
        np.savez(stream, __model__=np.array(json.dumps(model.config())), **model.state_dict())  # type: ignore[arg-type]
