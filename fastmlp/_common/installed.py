"""Detection and import of optional packages."""

from __future__ import annotations

import importlib
import importlib.util
from types import ModuleType

from .errors import BackendError

__all__ = ["is_installed", "library"]


def is_installed(package: str) -> bool:
    """Whether ``package`` can be imported.

    An empty folder of that name, which an uninstaller may leave behind and Python imports as a namespace package, does
    not count.
    """
    try:
        spec = importlib.util.find_spec(package)
    except ValueError:  # an imported module without __spec__
        return True
    return spec is not None and spec.origin is not None


def library(name: str, remedy: str) -> ModuleType:
    """Import the package ``name``.

    Raises
    ------
    BackendError
        If the package is not installed; the message contains ``remedy``.
    """
    if not is_installed(name):
        raise BackendError(f"This needs the package {name}, which is not installed: {remedy}.")
    return importlib.import_module(name)
