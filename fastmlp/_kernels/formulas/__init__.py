"""Formulas of activations, functions by column, losses and optimizers, written once for all compiled backends.

A file of `activations`, `columns`, `losses` or `optimizers` states one operation, under its name, as functions in the
vocabulary of `number`; each package says which functions. A backend compiles them with its own vocabulary: SIMD vectors
(`cpu`), the numbers of single threads (`cuda`), C expressions (`aot`). `reference` states the same operations
independently in NumPy: that is what the compiled ones are tested against.
"""

from __future__ import annotations

import hashlib
import importlib
import pkgutil
from collections.abc import Callable, Mapping
from types import FunctionType, ModuleType
from typing import Any

__all__ = ["bind", "find", "names", "output_suffices", "register", "sums_over_classes"]

FAMILIES = ("activations", "columns", "losses", "optimizers")
_registered: dict[str, dict[str, Any]] = {family: {} for family in FAMILIES}
_files: dict[tuple[str, str], Any] = {}


def names(family: str) -> tuple[str, ...]:
    """The names of a family's operations, sorted: those of its files, then those that users registered."""
    package = importlib.import_module(f".{family}", __name__)
    files = sorted(info.name for info in pkgutil.iter_modules(package.__path__))
    return (*files, *sorted(_registered[family]))


def find(family: str, name: str) -> Any:
    """The file (or what was registered in its place) of an operation.

    Raises
    ------
    KeyError
        If there is none of that name.
    """
    known = _registered[family].get(name, _files.get((family, name)))  # asked for at each step: no look at the disk
    if known is not None:
        return known
    if name not in names(family):
        raise KeyError(f"There is no formula {name!r} in {family}; expected one of {', '.join(names(family))}.")
    _files[family, name] = importlib.import_module(f".{family}.{name}", __name__)
    return _files[family, name]


def register(family: str, name: str, formula: Any) -> None:
    """Take a module (or another namespace) of a user's for an operation's formula.

    Raises
    ------
    ValueError
        If the name is taken by another formula.
    """
    if name in names(family) and _registered[family].get(name) is not formula:
        raise ValueError(f"The name {name!r} is taken in {family}; expected another one.")
    _registered[family][name] = formula


def output_suffices(kind: str, alpha: float) -> bool:
    """Whether an activation's derivative follows from its outputs, so that its inputs need not be kept."""
    formula = find("activations", kind)
    suffices: Callable[[float], bool] = getattr(formula, "output_suffices", lambda alpha: True)
    return hasattr(formula, "derivative_of_output") and bool(suffices(alpha))


def sums_over_classes(kind: str) -> bool:
    """Whether a loss adds up over the probabilities of classes, and not over single elements."""
    return hasattr(find("losses", kind), "class_term")


def bind(
    formula: Any,
    vocabulary: Mapping[str, Any],
    compiled: Callable[[Any], Any],
    constant: Callable[[float], Any] | None = None,
) -> dict[str, Any]:
    """The functions of a formula's file as a backend compiles them.

    Parameters
    ----------
    formula : module
    vocabulary : mapping of str to function
        What the names of `number` mean to the backend.
    compiled : function
        The backend's decorator. It gets functions whose names hold in other processes: a hash of their code is part of
        them.
    constant : function, optional
        What becomes of floats in the code and among the file's constants.

    Returns
    -------
    dict of str to object
        The file's names; its own functions are compiled, and call each other so.
    """
    source: Mapping[str, Any] = vars(formula)
    space = {**source, **vocabulary}
    if constant is not None:
        space.update({name: constant(value) for name, value in source.items() if isinstance(value, float)})
    for name, function in source.items():
        if not isinstance(function, FunctionType) or function.__module__ != formula.__name__:
            continue
        code = function.__code__
        if constant is not None:
            code = code.replace(
                co_consts=tuple(constant(one) if isinstance(one, float) else one for one in code.co_consts)
            )
        copy = FunctionType(code, space, _lasting_name(formula, function), function.__defaults__)
        copy.__module__ = function.__module__
        space[name] = compiled(copy)
    return space


def _lasting_name(formula: ModuleType, function: FunctionType) -> str:
    """A name by which a kernel on disk knows the function: equal only for equal code and equal constants."""
    digest = hashlib.blake2b(digest_size=6)
    numbers = sorted((name, value) for name, value in vars(formula).items() if isinstance(value, float))
    for one in (function.__code__.co_code, function.__code__.co_consts, function.__code__.co_names, numbers):
        digest.update(repr(one).encode())
    return f"{formula.__name__.rpartition('.')[2]}_{function.__name__}_{digest.hexdigest()}"
