"""ArrayDict: arrays of a module by name. SharedDict: dict whose array contents an engine may own temporarily."""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable, ItemsView, Iterator, ValuesView
from typing import Any, NoReturn

import numpy as np

from .._common.validation import Array, as_state

__all__ = ["ArrayDict", "SharedDict", "copy_into"]


def copy_into(array: Any, values: Array) -> None:
    """Copy ``values``, of the same shape and a castable dtype, into an array on the host or on a GPU."""
    if hasattr(array, "copy_to_device"):  # GPU arrays support neither ``...`` nor other layouts
        array.copy_to_device(np.ascontiguousarray(values))
    else:
        array[...] = values


class SharedDict(dict[str, Any]):
    """Dict whose array contents another owner, such as the training engine, may hold temporarily.

    After `share`, each access to a value first calls ``sync``, which writes the owner's numbers into the arrays and
    ends the sharing with `unshare`. `drop` frees an array during the sharing if only this dict refers to it; a reader
    then gets a new array. An array with other references cannot be dropped, since the other references would not see
    further steps. The owner must then write its numbers back at once.

    Reading the names needs no synchronization.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._sync: Callable[[], None] | None = None
        # Constructors of dropped arrays, by name; the dict holds None for a dropped array.
        self._dropped: dict[str, Callable[[], Any]] = {}

    def share(self, sync: Callable[[], None]) -> None:
        """Call ``sync`` before the next access to a value."""
        self._sync = sync

    def unshare(self) -> None:
        """End the sharing; no array is dropped any more."""
        self._sync = None

    def sync(self) -> None:
        """Write the owner's numbers into the arrays if another owner has them."""
        if self._sync is not None:
            self._sync()

    def local(self, name: str) -> Any:
        """Return the array without a synchronization; a dropped array is replaced by an uninitialized one."""
        if name in self._dropped:
            dict.__setitem__(self, name, self._dropped.pop(name)())
        return dict.__getitem__(self, name)

    def drop(self, name: str, empty: Callable[..., Any]) -> bool:
        """Drop an array until its next use by `local`; return False, without a change, if it is referenced elsewhere.

        A weak reference detects other references after this dict has released its own, so that the answer does not
        depend on the reference counts of an interpreter.

        Parameters
        ----------
        name : str
        empty : callable
            Function (shape, dtype) -> new array.
        """
        if name in self._dropped:
            return True
        array = dict.__getitem__(self, name)
        # Other views of the same base would not keep this view alive, so the weak reference could not detect them.
        if isinstance(getattr(array, "base", None), np.ndarray):
            return False
        reference, again = weakref.ref(array), functools.partial(empty, array.shape, array.dtype)
        dict.__setitem__(self, name, None)
        del array
        held = reference()
        if held is not None:
            dict.__setitem__(self, name, held)
            return False
        self._dropped[name] = again
        return True

    # ------------------------------------------------------------------- reading, through `__getitem__` alone

    def __getitem__(self, name: str) -> Any:
        while True:
            self.sync()
            value = dict.__getitem__(self, name)
            if value is not None:  # else a step in another thread has dropped the array again
                return value

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names; this override makes ``dict(arrays)`` and ``{**arrays}`` call `__getitem__`."""
        return dict.__iter__(self)

    def get(self, name: str, default: Any = None) -> Any:
        """Return the value of a name, or the default."""
        return self[name] if name in self else default

    def items(self) -> Any:
        """Return a view of names and values; each value is read on access."""
        return ItemsView(self)

    def values(self) -> Any:
        """Return a view of the values; each value is read on access."""
        return ValuesView(self)

    def copy(self) -> dict[str, Any]:
        """Return a plain dict of the same values."""
        return dict(self)

    def __or__(self, other: Any) -> Any:
        return dict(self) | other

    def __ror__(self, other: Any) -> Any:
        return other | dict(self)

    def __eq__(self, other: object) -> bool:
        return dict(self) == (dict(other) if isinstance(other, SharedDict) else other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __repr__(self) -> str:
        return repr(dict(self))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (dict(self),)


def _synced(name: str) -> Callable[..., Any]:
    method = getattr(dict, name)

    @functools.wraps(method)
    def call(self: SharedDict, *args: Any, **kwargs: Any) -> Any:
        self.sync()
        return method(self, *args, **kwargs)

    return call


for _name in ("__setitem__", "__delitem__", "__ior__", "update", "pop", "popitem", "setdefault", "clear"):
    setattr(SharedDict, _name, _synced(_name))


class ArrayDict(SharedDict):
    """Arrays by name, with fixed names, shapes and dtypes.

    Assignment copies the values into the existing array, since kernels rely on the shapes and an optimizer's state
    belongs to the array.

    Raises
    ------
    KeyError
        On assignment to an unknown name.
    TypeError
        On an attempt to add or remove a name.
    ValueError
        On assignment of an array of another shape, or of values that are not numbers.
    """

    def __setitem__(self, name: str, value: Any) -> None:
        if name not in self:
            raise KeyError(f"There is no array {name!r}; expected one of {', '.join(self) or 'none'}.")
        current = self[name]
        if value is not current:
            copy_into(current, as_state(value, current, name))

    def update(self, *args: Any, **kwargs: Any) -> None:
        """Assign to several names."""
        for name, value in dict(*args, **kwargs).items():
            self[name] = value

    def replace(self, name: str, array: Any) -> None:
        """Replace an array, for example by its copy on another device."""
        self.sync()
        dict.__setitem__(self, name, array)

    def __ior__(self, other: Any) -> ArrayDict:  # type: ignore[override]
        self.update(other)
        return self

    def _refuse(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise TypeError(f"The arrays of a module are fixed ({', '.join(self) or 'none'}); assign to them instead.")

    __delitem__ = clear = pop = popitem = setdefault = _refuse
