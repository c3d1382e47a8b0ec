"""Models from and for other programs: PyTorch, ONNX, C and NumPy; each file brings its own library along."""

from __future__ import annotations

import importlib
from types import ModuleType

from ..errors import BackendError
from ..installed import is_installed

__all__ = ["library"]


def library(name: str, remedy: str) -> ModuleType:
    """The package ``name``, or a `BackendError` that says how to get it."""
    if not is_installed(name):
        raise BackendError(f"This needs the package {name}, which is not installed: {remedy}.")
    return importlib.import_module(name)
