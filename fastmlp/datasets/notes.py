"""Notes about data that was read, but perhaps not as its owner meant it."""

from __future__ import annotations

from .._common.errors import DataWarning, warn_user

__all__ = ["note"]


def note(text: str) -> None:
    """Warn with a `DataWarning`."""
    warn_user(text, DataWarning)
