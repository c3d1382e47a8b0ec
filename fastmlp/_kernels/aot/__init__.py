"""Inference compiled ahead of time: one extension module for each instruction set, and the choice between them."""

from __future__ import annotations

import functools
import importlib
import os
from types import ModuleType

from ...errors import BackendError

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
    try:
        baseline = importlib.import_module(".baseline", __name__)
    except ImportError:
        return None
    best: str = baseline.best()
    asked = os.environ.get("FASTMLP_INSTRUCTIONS") or best
    if asked not in VARIANTS[: VARIANTS.index(best) + 1]:
        usable = ", ".join(VARIANTS[: VARIANTS.index(best) + 1])
        raise BackendError(f"FASTMLP_INSTRUCTIONS is {asked!r}; expected one of {usable} on this processor.")
    return importlib.import_module(f".{asked}", __name__)
