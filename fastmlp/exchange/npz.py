"""Export of a model's arrays to a .npz file."""

from __future__ import annotations

import json
import os

import numpy as np

from ..inference.plan import require_model
from ..io.files import atomic_write
from ..modules import Module

__all__ = ["export_npz"]


def export_npz(model: Module, path: str | os.PathLike[str]) -> None:
    """Write a model's ``state_dict()`` as a .npz file.

    The file contains the arrays by name, and the config as JSON text under ``__model__``. ``np.load(path)`` and
    ``model.load_state_dict(path)`` read it.

    Parameters
    ----------
    model : Module
    path : path-like
        The file, written whole or not at all.

    Raises
    ------
    ValueError
        If ``model`` is not a module.
    OSError
        If the file cannot be written.

    Examples
    --------
    >>> import fastmlp as fm
    >>> fm.export_npz(fm.MLP(4, [8], 2), "weights.npz")  # doctest: +SKIP
    """
    require_model(model, "export_npz")
    with atomic_write(path) as stream:
        np.savez(stream, __model__=np.array(json.dumps(model.config())), **model.state_dict())  # type: ignore[arg-type]
