"""OptimizerState: arrays of an optimizer by parameter."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from .._common.validation import Array
from ..modules.arrays import SharedDict

__all__ = ["OptimizerState"]


class OptimizerState(SharedDict):
    """Arrays of an optimizer, by name of the parameter and name of the state.

    Both levels are `SharedDict`; assigned mappings are copied into one.
    """

    def __init__(self, state: Mapping[str, Mapping[str, Array]] = MappingProxyType({})) -> None:
        super().__init__({name: SharedDict(arrays) for name, arrays in state.items()})

    def __setitem__(self, name: str, arrays: Mapping[str, Array]) -> None:
        super().__setitem__(name, SharedDict(arrays))

    def setdefault(self, name: str, arrays: Any = None) -> Any:
        """Return the arrays of a parameter; assign ``arrays`` first if it has none."""
        if name not in self:
            self[name] = arrays or {}
        return self[name]

    def update(self, *args: Any, **kwargs: Any) -> None:
        """Assign the arrays of several parameters."""
        for name, arrays in dict(*args, **kwargs).items():
            self[name] = arrays

    def __ior__(self, other: Any) -> OptimizerState:  # type: ignore[override]
        self.update(other)
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return dict, ({name: dict(arrays) for name, arrays in self.items()},)
