"""The extension module that does without Python code between the steps, if it is installed."""

from __future__ import annotations

try:
    from .._kernels.compiled import native
except ImportError:  # installed without a C compiler
    native = None  # type: ignore[assignment]

__all__ = ["has_native", "native"]


def has_native() -> bool:
    """Return whether the extension module exists."""
    return native is not None
