"""ArrayDict: the arrays of a module by name; SharedDict: a dict whose arrays' numbers an engine may have for a time."""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable, ItemsView, Iterator, ValuesView
from typing import Any, NoReturn

import numpy as np

from .._common.validation import Array, as_state

__all__ = ["ArrayDict", "SharedDict", "copy_into"]


def copy_into(array: Any, values: Array) -> None:
    """Make ``values``, of the same shape and dtype or one that is cast, those of an array, here or on a GPU."""
    if hasattr(array, "copy_to_device"):  # one of a GPU knows neither ``...`` nor other layouts
        array.copy_to_device(np.ascontiguousarray(values))
    else:
        array[...] = values


class SharedDict(dict[str, Any]):
    """A dict whose arrays' numbers another owner, such as the training engine, may have for a time.

    After `share` each access to a value first calls ``sync``, which writes the owner's numbers into the arrays and
    ends the sharing with `unshare`. An array that only this dict refers to can be dropped for that time (`drop`):
    a reader gets a new one. An array that is referred to from elsewhere cannot, since its holder would see no
    further steps; the owner then has to write its numbers back at once.

    Names can be read without a synchronization.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._sync: Callable[[], None] | None = None
        # By the name of a dropped array, the call that makes a new one; its value in the dict is None.
        self._dropped: dict[str, Callable[[], Any]] = {}

    def share(self, sync: Callable[[], None]) -> None:
        """Call ``sync`` before the next access to a value."""
        self._sync = sync

    def unshare(self) -> None:
        """Let accesses go to the arrays again, none of which is dropped."""
        self._sync = None

    def sync(self) -> None:
        """Bring the numbers back if another owner has them."""
        if self._sync is not None:
            self._sync()

    def local(self, name: str) -> Any:
        """The array as it is, without a synchronization; a new one, without numbers, where it was dropped."""
        if name in self._dropped:
            dict.__setitem__(self, name, self._dropped.pop(name)())
        return dict.__getitem__(self, name)

    def drop(self, name: str, empty: Callable[..., Any]) -> bool:
        """Drop an array until its next use by `local`; False, and nothing else, where it is held elsewhere.

        Whether it is held is told by a weak reference, after this dict has given up its own: the answer does not
        depend on how an interpreter counts references.

        Parameters
        ----------
        name : str
        empty : callable
            Makes the new array, of a shape and a dtype.
        """
        if name in self._dropped:
            return True
        array = dict.__getitem__(self, name)
        # A view of a larger array: other views of it refer to that one, and not to this.
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

    # ------------------------------------------------------------------ reading, of each value by `__getitem__`

    def __getitem__(self, name: str) -> Any:
        while True:
            self.sync()
            value = dict.__getitem__(self, name)
            if value is not None:  # dropped again, by a step in another thread
                return value

    def __iter__(self) -> Iterator[str]:
        """As a dict's: with a method of its own, ``dict(arrays)`` and ``{**arrays}`` call `__getitem__` too."""
        return dict.__iter__(self)

    def get(self, name: str, default: Any = None) -> Any:
        """The value of a name, or the default."""
        return self[name] if name in self else default

    def items(self) -> Any:
        """Names and values, read when they are asked for."""
        return ItemsView(self)

    def values(self) -> Any:
        """The values, read when they are asked for."""
        return ValuesView(self)

    def copy(self) -> dict[str, Any]:
        """A dict of the same values."""
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
    """Arrays by name, whose names, shapes and dtypes stay as they were made.

    Assigning to a name copies the values into the array that is there: the kernels trust shapes, and
    an optimizer's state belongs to them.

    Raises
    ------
    KeyError
        When assigning to a name that is not there.
    TypeError
        When a name would come or go.
    ValueError
        When assigning an array of another shape, or what are no numbers.
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
        """Put another array in the place of one, such as its copy on another device."""
        self.sync()
        dict.__setitem__(self, name, array)

    def __ior__(self, other: Any) -> ArrayDict:  # type: ignore[override]
        self.update(other)
        return self

    def _refuse(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise TypeError(f"The arrays of a module are fixed ({', '.join(self) or 'none'}); assign to them instead.")

    __delitem__ = clear = pop = popitem = setdefault = _refuse
