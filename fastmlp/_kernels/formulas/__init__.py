"""Formulas of activations, functions by column, losses and optimizers, written once for all compiled backends.

Each file of `activations`, `columns`, `losses` or `optimizers` defines the operation of its name, as functions in the
vocabulary of `number`. Each package lists the functions that its files define. A backend compiles the functions with
its own vocabulary: SIMD vectors (`cpu`), the numbers of single threads (`cuda`), C expressions (`c`). `reference`
defines the same operations independently in NumPy. Tests compare the compiled operations with `reference`.
"""

from __future__ import annotations

import hashlib
import importlib
import pkgutil
from collections.abc import Callable, Mapping
from types import FunctionType, ModuleType
from typing import Any

__all__ = ["bind", "find", "is_registered", "names", "output_suffices", "register", "sums_over_classes"]

FAMILIES = ("activations", "columns", "losses", "optimizers")
_registered: dict[str, dict[str, Any]] = {family: {} for family in FAMILIES}
_files: dict[tuple[str, str], Any] = {}


def names(family: str) -> tuple[str, ...]:
    """Return the names of a family's operations, sorted: first those of its files, then those registered by users."""
    package = importlib.import_module(f".{family}", __name__)
    files = sorted(info.name for info in pkgutil.iter_modules(package.__path__))
    return (*files, *sorted(_registered[family]))


def find(family: str, name: str) -> Any:
    """Return the module that defines an operation.

    Raises
    ------
    KeyError
        If the family has no operation of that name.
    """
    known = _registered[family].get(name, _files.get((family, name)))  # called at each step: no disk access
    if known is not None:
        return known
    if name not in names(family):
        raise KeyError(f"There is no formula {name!r} in {family}; expected one of {', '.join(names(family))}.")
    _files[family, name] = importlib.import_module(f".{family}.{name}", __name__)
    return _files[family, name]


def register(family: str, name: str, formula: ModuleType) -> None:
    """Register a module as the formula of a user-defined operation; its functions are those of the family's files.

    Raises
    ------
    ValueError
        If there is no such family, the formula is not a module, or the name belongs to another formula.
    """
    if family not in FAMILIES:
        raise ValueError(f"family is {family!r}; expected one of {', '.join(FAMILIES)}.")
    if not isinstance(formula, ModuleType):
        raise ValueError(f"The formula {name!r} is {formula!r}; expected a module that defines its functions.")
    if name in names(family) and _registered[family].get(name) is not formula:
        raise ValueError(f"The name {name!r} is taken in {family}; expected another one.")
    _registered[family][name] = formula


def is_registered(family: str, name: str) -> bool:
    """Return whether an operation is not of the package but registered by a user."""
    return name in _registered[family]


def output_suffices(kind: str, alpha: float) -> bool:
    """Return whether an activation's derivative follows from its output, so that its input need not be stored."""
    formula = find("activations", kind)
    suffices: Callable[[float], bool] = getattr(formula, "output_suffices", lambda alpha: True)
    return hasattr(formula, "derivative_of_output") and bool(suffices(alpha))


def sums_over_classes(kind: str) -> bool:
    """Return whether a loss sums over the probabilities of classes, rather than over single elements."""
    return hasattr(find("losses", kind), "class_term")


def bind(
    formula: Any,
    vocabulary: Mapping[str, Any],
    compiled: Callable[[Any], Any],
    constant: Callable[[float], Any] | None = None,
) -> dict[str, Any]:
    """Compile the functions of a formula's file with a backend's vocabulary.

    Parameters
    ----------
    formula : module
    vocabulary : mapping of str to function
        The backend's definitions of the names of `number`.
    compiled : function
        The backend's decorator. The functions passed to it have names that are valid across processes: each name
        includes a hash of the code.
    constant : function, optional
        Conversion of the floats in the code and among the file's constants.

    Returns
    -------
    dict of str to object
        The file's names. Its own functions are compiled and call each other's compiled versions.
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
    """Return a name that identifies the function in an on-disk cache: equal only for equal code and equal constants."""
    digest = hashlib.blake2b(digest_size=6)
    numbers = sorted((name, value) for name, value in vars(formula).items() if isinstance(value, float))
    for one in (function.__code__.co_code, function.__code__.co_consts, function.__code__.co_names, numbers):
        digest.update(repr(one).encode())
    return f"{formula.__name__.rpartition('.')[2]}_{function.__name__}_{digest.hexdigest()}"
