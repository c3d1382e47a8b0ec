"""Settings that a prepared step depends on, as attributes that are compared by identity.

`support.settings` describes them by value, which takes longer than a step of a small model. A comparison of each
attribute with the object that it had is as strict, as long as these objects cannot change: numbers, strings, None and
tuples of them. Arrays are compared by content. Classes of the user may depend on more than their attributes, so that
nothing is known of them.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..losses import Loss
from ..modules import Module
from ..modules.lowering import Layer
from ..optim import Optimizer
from ..optim.schedules import Schedule

__all__ = ["Settings", "hyperparameter_settings", "module_settings", "parameter_arrays", "structure_settings"]

_PACKAGE = __name__.partition(".")[0]
_IMMUTABLE = (type(None), bool, int, float, str, bytes, np.generic, np.dtype)
# Attributes of modules that `Module.settings` does not depend on.
_NOT_SETTINGS = frozenset(
    {"backend", "buffers", "classes", "has_gradients", "params", "seed", "step", "task", "training"}
)
# Attributes of an optimizer that the tables depend on; all others but the counter are hyperparameters.
_STRUCTURE = ("clip_norm", "clip_value", "average", "_state", "_backend_name", "_param_groups")
_COUNTER = "steps"


class Settings(NamedTuple):
    """Attributes as (dictionary, name, value), numbers of attributes, and arrays with their contents."""

    attributes: list[tuple[dict[str, Any], str, Any]]
    sizes: list[tuple[dict[str, Any], int]]
    arrays: list[tuple[Any, bytes]]


def _is_own(value: object) -> bool:
    return type(value).__module__.partition(".")[0] == _PACKAGE


def _is_immutable(value: object) -> bool:
    return isinstance(value, _IMMUTABLE) or (isinstance(value, tuple) and all(map(_is_immutable, value)))


def structure_settings(model: Module, layers: list[Layer], loss: Loss, optimizer: Optimizer) -> Settings | None:
    """Return what the tables of a plan depend on; None if they depend on more than attributes."""
    if not (_is_own(loss) and _is_own(optimizer)):
        return None
    found = module_settings(model, layers)
    if found is None:
        return None
    found.attributes.extend((vars(optimizer), name, vars(optimizer)[name]) for name in _STRUCTURE)
    found.sizes.extend([(vars(optimizer), len(vars(optimizer))), (vars(loss), len(vars(loss)))])
    found.attributes.append((vars(loss), "backend", loss.backend))
    return found if _watch(found, loss, frozenset({"backend"})) else None


def module_settings(model: Module, layers: list[Layer]) -> Settings | None:
    """Return what the tables of a model depend on besides its parameters; None if they depend on more."""
    if not all(_is_own(layer.module) for layer in layers):
        return None
    found = Settings([(vars(model), "backend", model.backend)], [], [])
    return found if all(_watch_module(found, one) for _, one in layers) else None


def parameter_arrays(model: Module) -> Settings | None:
    """Return the arrays of a model's parameters, and their places; None for arrays of another layout."""
    found = Settings([], [], [])
    for module in model.modules():
        found.attributes.append((vars(module), "params", module.params))
        for name, array in module.params.items():
            if not isinstance(array, np.ndarray) or not array.flags.c_contiguous:
                return None
            found.attributes.append((module.params, name, array))
            found.arrays.append((array, array.tobytes()))
    return found


def _watch_module(found: Settings, module: Module) -> bool:
    if type(module).settings is Module.settings:
        return True
    for array in dict.values(module.buffers):
        if not isinstance(array, np.ndarray) or not array.flags.c_contiguous:
            return False
        found.arrays.append((array, array.tobytes()))
    found.attributes.extend((vars(module), name, vars(module)[name]) for name in ("buffers",) if module.buffers)
    return _watch(found, module, _NOT_SETTINGS)


def _watch(found: Settings, one: object, but: frozenset[str]) -> bool:
    """Add the public attributes of an object; return False if one of them may change without an assignment."""
    for name, value in vars(one).items():
        if name.startswith("_") or name in but:
            continue
        found.attributes.append((vars(one), name, value))
        if isinstance(value, np.ndarray) and value.flags.c_contiguous:
            found.arrays.append((value, value.tobytes()))
        elif not _is_immutable(value):
            return False
    return True


def hyperparameter_settings(optimizer: Optimizer) -> Settings | None:
    """Return what `support.hyperparameters` depends on besides the counter; None if it depends on more."""
    found = Settings([], [], [])
    return found if _watch_schedules(found, optimizer, frozenset({*_STRUCTURE, _COUNTER})) else None


def _watch_schedules(found: Settings, one: object, but: frozenset[str] = frozenset()) -> bool:
    """Add the attributes of an optimizer or a schedule; return False if one may change without an assignment."""
    if not _is_own(one):
        return False
    found.sizes.append((vars(one), len(vars(one))))
    for name, value in vars(one).items():
        if name not in but:
            found.attributes.append((vars(one), name, value))
            if not (_watch_schedules(found, value) if isinstance(value, Schedule) else _is_immutable(value)):
                return False
    return True
