"""OptimizerState: the arrays that an optimizer keeps, by parameter."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from .._common.validation import Array
from ..modules.arrays import SharedDict

__all__ = ["OptimizerState"]


class OptimizerState(SharedDict):
    """By the name of each parameter, the optimizer's arrays for it by their names.

    Both levels are `SharedDict`s; a mapping that is put in is copied into one.
    """

    def __init__(self, state: Mapping[str, Mapping[str, Array]] = MappingProxyType({})) -> None:
        super().__init__({name: SharedDict(arrays) for name, arrays in state.items()})

    def __setitem__(self, name: str, arrays: Mapping[str, Array]) -> None:
        super().__setitem__(name, SharedDict(arrays))

    def setdefault(self, name: str, arrays: Any = None) -> Any:
        """The arrays of a parameter; these, where it has none."""
        if name not in self:
            self[name] = arrays or {}
        return self[name]

    def update(self, *args: Any, **kwargs: Any) -> None:
        """Set the arrays of several parameters."""
        for name, arrays in dict(*args, **kwargs).items():
            self[name] = arrays

    def __ior__(self, other: Any) -> OptimizerState:  # type: ignore[override]
        self.update(other)
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return dict, ({name: dict(arrays) for name, arrays in self.items()},)
