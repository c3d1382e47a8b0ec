"""Training on several machines: groups of ranks.

A name is imported from its file when it is first used, since each one needs a library of its own.
"""

from __future__ import annotations

import importlib
from typing import Any

_NAMES = {"Group": "mpi_group", "mpi": "mpi_group"}  # name: its file

__all__ = list(_NAMES)


def __getattr__(name: str) -> Any:
    if name not in _NAMES:
        raise AttributeError(f"module 'fastmlp.distributed' has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{_NAMES[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
