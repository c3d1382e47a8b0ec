"""The extension module that makes steps and copies weights without Python code, if it is installed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._kernels.compiled.library import extension_module

if TYPE_CHECKING:
    from .._kernels.compiled import native
else:
    native = extension_module()

__all__ = ["has_native", "native"]


def has_native() -> bool:
    """Return whether the extension module exists."""
    return native is not None
