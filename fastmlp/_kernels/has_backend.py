"""HasBackend: what modules and losses share, a backend that is taken when they are made."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from . import PRECISIONS, get_backend

__all__ = ["HasBackend"]


class HasBackend:
    """Holds a backend; survives `copy.deepcopy` and pickle, which cannot take a Python module along."""

    backend: ModuleType

    def __init__(self, backend: ModuleType | None = None) -> None:
        self.backend = get_backend() if backend is None else backend

    @property
    def backend_name(self) -> str:
        """The backend's name, as `use_backend` takes it."""
        return str(self.backend.name)

    @property
    def precision(self) -> str:
        """That of the products of Linear layers: "float32" (of float64 models, float64), "bf16x6", "tf32" or "bf16"."""
        return str(getattr(self.backend, "precision", PRECISIONS[0]))

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "backend": self.backend_name, "precision": self.precision}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        # Not kept there, and absent from what earlier versions pickled.
        self.backend = get_backend(state["backend"], self.__dict__.pop("precision", PRECISIONS[0]))
