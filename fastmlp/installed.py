"""Which other packages are there, without importing them."""

from __future__ import annotations

import importlib.util

__all__ = ["is_installed"]


def is_installed(package: str) -> bool:
    """Whether it can be imported; what an uninstalled one left behind, a folder without its files, is none.

    Python imports such a folder, as a namespace with nothing in it.
    """
    try:
        spec = importlib.util.find_spec(package)
    except ValueError:  # it is imported, and was made by hand
        return True
    return spec is not None and spec.origin is not None
