"""Notes about data that was read, but perhaps not as its owner meant it."""

from __future__ import annotations

import inspect
import warnings

from ..errors import DataWarning

__all__ = ["note"]


def note(text: str) -> None:
    """Warn with a `DataWarning` that points at the first line outside of this package."""
    package = __name__.partition(".")[0]
    level, frame = 1, inspect.currentframe()
    while frame is not None and frame.f_globals.get("__name__", "").partition(".")[0] == package:
        level, frame = level + 1, frame.f_back
    # `level` counts from this function, whose own frame is 1.
    warnings.warn(text, DataWarning, stacklevel=level)
