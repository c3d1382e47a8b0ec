"""Models from and for other programs: PyTorch, ONNX, C and NumPy; each file brings its own library along."""

from __future__ import annotations

import importlib
import importlib.util
from types import ModuleType

from ..errors import BackendError

__all__ = ["library"]


def library(name: str, remedy: str) -> ModuleType:
    """The package ``name``, or a `BackendError` that says how to get it."""
    if importlib.util.find_spec(name) is None:
        raise BackendError(f"This needs the package {name}, which is not installed: {remedy}.")
    return importlib.import_module(name)
