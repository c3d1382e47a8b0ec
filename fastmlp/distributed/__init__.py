"""Training on several machines: groups of ranks, and sweeps on Dask clusters.

A name is imported from its file when it is first used, since each one needs a library of its own.
"""

from __future__ import annotations

from typing import Any

from .._common.lazy_names import import_name, read_names

_NAMES = read_names(__file__)

__all__ = list(_NAMES)


def __getattr__(name: str) -> Any:
    globals()[name] = value = import_name(__name__, _NAMES, name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
