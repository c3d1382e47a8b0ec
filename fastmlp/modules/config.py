"""Construction of modules from configs; only built-in and registered types are accepted."""

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
    """Return all classes that a config can name, by name."""
    activations: Any = importlib.import_module(".activations", __package__)
    return {**_built_in(), **{kind.__name__: kind for kind in activations.activation_types()}, **_registered}


def is_registered_module(kind: type[Module]) -> bool:
    """Return whether a class is built in, or registered by `register_module` or `register_activation`."""
    activations: Any = importlib.import_module(".activations", __package__)
    named = kind.__name__
    return kind in (_built_in().get(named), _registered.get(named)) or kind in activations.activation_types()


@functools.cache
def _built_in() -> dict[str, type[Module]]:
    """Find the classes in the files of this package; on first use, since some of the files import this one."""
    package: Any = importlib.import_module(str(__package__))
    found: dict[str, type[Module]] = {}
    for info in pkgutil.iter_modules(package.__path__):
        if not info.ispkg:
            file = importlib.import_module(f".{info.name}", __package__)
            kinds = (getattr(file, name) for name in getattr(file, "__all__", ()))
            found.update({kind.__name__: kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Module)})
    return {name: kind for name, kind in found.items() if kind is not Module}


def register_module(kind: type[Module]) -> type[Module]:
    """Allow saved files to contain modules of a custom class; usable as a decorator.

    Parameters
    ----------
    kind : type
        A subclass of `Module` with ``config``, and with ``from_config`` if its constructor does not take the entries
        of ``config``. `Module.onnx_nodes`, `Module.to_c` and ``torch`` make the class exportable. With `Module.lower`
        the engine and `Predictor` support it; otherwise a model trains module by module, which is slower and issues
        a `PerformanceWarning` once.

    Raises
    ------
    ValueError
        If ``kind`` is not such a class, or its name is taken.

    Examples
    --------
    >>> import fastmlp as fm
    >>> @fm.register_module
    ... class Narrow(fm.MLP):
    ...     def __init__(self):
    ...         super().__init__(4, [8], 2)
    ...     def config(self):
    ...         return {"type": "Narrow"}
    """
    if not (isinstance(kind, type) and issubclass(kind, Module)):
        raise ValueError(f"register_module expected a class derived from Module, got {kind!r}.")
    if module_types().get(kind.__name__, kind) is not kind:
        raise ValueError(f"There is a module {kind.__name__!r} already; expected another name.")
    _registered[kind.__name__] = kind
    return kind


def module_from_config(config: Mapping[str, Any]) -> Module:
    """Build the module that `Module.config` described; trained arrays are zeros until a state is loaded.

    Parameters
    ----------
    config : mapping
        For example ``{"type": "Linear", "in_features": 64, ...}``, as read from a saved file.

    Raises
    ------
    ModelFileError
        If the type is neither built in nor registered, or the arguments are invalid.
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
