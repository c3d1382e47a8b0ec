"""Inference compiled ahead of time: one extension module for each instruction set, and the choice between them."""

from __future__ import annotations

import functools
import importlib
import os
from types import ModuleType

from ..._common.errors import BackendError

__all__ = ["VARIANTS", "extension"]

VARIANTS = ("baseline", "avx2", "avx512")  # each can do what those before it can


@functools.cache
def extension() -> ModuleType | None:
    """The extension module for this processor; None where the package was installed without a compiler.

    FASTMLP_INSTRUCTIONS=baseline, avx2 or avx512 takes another one.

    Raises
    ------
    BackendError
        If that variable names none, or one that this processor cannot run.
    """
    baseline = _load("baseline")
    if baseline is None:
        return None
    usable = VARIANTS[: VARIANTS.index(baseline.best()) + 1]
    asked = os.environ.get("FASTMLP_INSTRUCTIONS")
    if asked:
        found = _load(asked) if asked in usable else None
        if found is None:
            raise BackendError(f"FASTMLP_INSTRUCTIONS is {asked!r}; expected one of {', '.join(usable)} here.")
        return found
    # An old compiler may have made some of them only.
    return next(module for name in reversed(usable) if (module := _load(name)))


def _load(name: str) -> ModuleType | None:
    try:
        return importlib.import_module(f".{name}", __name__)
    except ImportError:
        return None
