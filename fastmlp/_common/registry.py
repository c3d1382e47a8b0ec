"""Registry of the classes of a family (activations, losses, ...), built-in and user-defined, by name."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Generic, TypeVar

__all__ = ["Registry"]

T = TypeVar("T")


class Registry(Generic[T]):
    """Mapping from names to classes.

    Parameters
    ----------
    base : type
        Base class of all entries.
    names : callable
        ``names(cls)`` returns the names of a class.

    Examples
    --------
    >>> registry = Registry(Exception, lambda kind: [kind.__name__.lower()])
    >>> registry.add(KeyError)
    <class 'KeyError'>
    >>> "keyerror" in registry
    True
    """

    def __init__(self, base: type[T], names: Callable[[type[T]], Iterable[str]]) -> None:
        self.base, self._names = base, names
        self._types: dict[str, type[T]] = {}

    def add(self, kind: type[T]) -> type[T]:
        """Add a class and return it.

        Raises
        ------
        ValueError
            If the class is not derived from the base, or if one of its names belongs to another class.
        """
        if not (isinstance(kind, type) and issubclass(kind, self.base)):
            raise ValueError(f"Expected a class derived from {self.base.__name__}, got {kind!r}.")
        names = tuple(self._names(kind))
        for name in names:
            if self._types.get(name, kind) is not kind:
                raise ValueError(f"{self.base.__name__} {name!r} already exists; expected another name.")
        self._types.update(dict.fromkeys(names, kind))
        return kind

    def add_files(self, package: str, path: Iterable[str], *, skip: Iterable[str] = ()) -> dict[str, type[T]]:
        """Add the classes in ``__all__`` of each module of a package and return them by class name."""
        found = {}
        for info in pkgutil.iter_modules(path):
            if info.name not in skip:
                file: Any = importlib.import_module(f".{info.name}", package)
                found.update({name: self.add(getattr(file, name)) for name in file.__all__})
        return found

    def __getitem__(self, name: str) -> type[T]:
        return self._types[name]

    def __contains__(self, name: object) -> bool:
        return name in self._types

    def __iter__(self) -> Iterator[str]:
        return iter(self._types)

    def types(self) -> tuple[type[T], ...]:
        """Return the distinct classes in the order in which they were added."""
        return tuple(dict.fromkeys(self._types.values()))
