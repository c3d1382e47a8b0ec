"""Modules from their configs: the built-in types and those that were registered, by name, and nothing else."""

from __future__ import annotations

import functools
import importlib
import pkgutil
from collections.abc import Mapping
from typing import Any

from .._common.errors import ModelFileError
from .base import Module

__all__ = ["is_registered_module", "module_from_config", "module_types", "register_module"]

_registered: dict[str, type[Module]] = {}


def module_types() -> dict[str, type[Module]]:
    """All classes that a config can name, by their names."""
    activations: Any = importlib.import_module(".activations", __package__)
    return {**_built_in(), **{kind.__name__: kind for kind in activations.activation_types()}, **_registered}


def is_registered_module(kind: type[Module]) -> bool:
    """Whether a class is one of fastmlp's or was given to `register_module`, or as an activation to its registry."""
    return module_types().get(kind.__name__) is kind


@functools.cache
def _built_in() -> dict[str, type[Module]]:
    """Classes in the files beside this one; looked up when asked for, as some of them import this."""
    package: Any = importlib.import_module(str(__package__))
    found: dict[str, type[Module]] = {}
    for info in pkgutil.iter_modules(package.__path__):
        if not info.ispkg:
            file = importlib.import_module(f".{info.name}", __package__)
            kinds = (getattr(file, name) for name in getattr(file, "__all__", ()))
            found.update({kind.__name__: kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Module)})
    return {name: kind for name, kind in found.items() if kind is not Module}


def register_module(kind: type[Module]) -> type[Module]:
    """Let saved files have modules of a class of yours. May be a decorator.

    Parameters
    ----------
    kind : type
        A class derived from `Module`, with ``config`` and, where its arguments are not those of ``config``,
        ``from_config``. It is exported where it says how: `Module.onnx_nodes`, `Module.to_c`, ``torch``. With
        `Module.lower` the engine and `Predictor` take it too; without, it trains module by module, which is slower,
        and a `PerformanceWarning` says so once.

    Raises
    ------
    ValueError
        If it is no such class, or another one has its name.
    """
    if not (isinstance(kind, type) and issubclass(kind, Module)):
        raise ValueError(f"register_module expected a class derived from Module, got {kind!r}.")
    if module_types().get(kind.__name__, kind) is not kind:
        raise ValueError(f"There is a module {kind.__name__!r} already; expected another name.")
    _registered[kind.__name__] = kind
    return kind


def module_from_config(config: Mapping[str, Any]) -> Module:
    """The module that `Module.config` described, its trained arrays zero until a state is loaded.

    Parameters
    ----------
    config : mapping
        ``{"type": "Linear", "in_features": 64, ...}``, for instance out of a saved file.

    Raises
    ------
    ModelFileError
        If the type is neither one of fastmlp's nor registered, or the arguments are not ones that it takes.
    """
    kind = config.get("type") if isinstance(config, Mapping) else None
    types = module_types()
    if not isinstance(kind, str) or kind not in types:
        raise ModelFileError(
            f"The model has a module of type {kind!r}; expected one of {', '.join(sorted(types))}, or one that was "
            "given to register_module before."
        )
    try:
        return types[kind].from_config(config)
    except ModelFileError:
        raise
    except (KeyError, MemoryError, OverflowError, RecursionError, TypeError, ValueError) as error:
        raise ModelFileError(f"The model's {kind} cannot be built: {type(error).__name__}: {error}") from error
