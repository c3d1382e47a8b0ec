"""Training beyond one process; each name brings its own library along when it is first used."""

from __future__ import annotations

import importlib
from typing import Any

# name: the file of it
_NAMES = {"Group": ".._common.group", "mpi": ".mpi_group"}

__all__ = ["Group", "mpi"]


def __getattr__(name: str) -> Any:
    if name not in _NAMES:
        raise AttributeError(f"module 'fastmlp.distributed' has no attribute {name!r}")
    value = getattr(importlib.import_module(_NAMES[name], __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
