"""Which other packages are there, without importing them; and their import, with an error that says how to get them."""

from __future__ import annotations

import importlib
import importlib.util
from types import ModuleType

from .errors import BackendError

__all__ = ["is_installed", "library"]


def is_installed(package: str) -> bool:
    """Whether it can be imported; what an uninstalled one left behind, a folder without its files, is none.

    Python imports such a folder, as a namespace with nothing in it.
    """
    try:
        spec = importlib.util.find_spec(package)
    except ValueError:  # it is imported, and was made by hand
        return True
    return spec is not None and spec.origin is not None


def library(name: str, remedy: str) -> ModuleType:
    """The package ``name``, or a `BackendError` that says how to get it."""
    if not is_installed(name):
        raise BackendError(f"This needs the package {name}, which is not installed: {remedy}.")
    return importlib.import_module(name)
