"""Base class of modules and losses: a backend chosen at construction."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from . import PRECISIONS, get_backend

__all__ = ["HasBackend"]


class HasBackend:
    """Base class that holds a backend and survives `copy.deepcopy` and pickle.

    A Python module cannot be pickled, so the state holds the backend's name instead.
    """

    backend: ModuleType

    def __init__(self, backend: ModuleType | None = None) -> None:
        self.backend = get_backend() if backend is None else backend

    @property
    def backend_name(self) -> str:
        """Name of the backend, as `use_backend` takes it."""
        return str(self.backend.name)

    @property
    def precision(self) -> str:
        """Precision of the products of Linear layers: "float32", "bf16x6", "tf32" or "bf16".

        The products of float64 models have the precision of float64 where this is "float32".
        """
        return str(getattr(self.backend, "precision", PRECISIONS[0]))

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "backend": self.backend_name, "precision": self.precision}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        # `precision` is a property of the backend, and pickles of earlier versions lack it.
        self.backend = get_backend(state["backend"], self.__dict__.pop("precision", PRECISIONS[0]))
