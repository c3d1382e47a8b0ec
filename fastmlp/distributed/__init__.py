"""Training on several machines: groups of ranks, and sweeps on Dask clusters.

A name is imported from its file when it is first used, since each one needs a library of its own.
"""

from __future__ import annotations

import importlib
from typing import Any

from .._common.lazy_names import read_names

_NAMES = read_names(__file__)

__all__ = list(_NAMES)


def __getattr__(name: str) -> Any:
    if name not in _NAMES:
        raise AttributeError(f"module 'fastmlp.distributed' has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{_NAMES[name][0]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
