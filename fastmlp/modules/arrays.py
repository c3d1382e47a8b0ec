"""ArrayDict: the arrays of a module by name."""

from __future__ import annotations

from typing import Any, NoReturn

import numpy as np

from .._common.validation import Array, as_state

__all__ = ["ArrayDict", "copy_into"]


def copy_into(array: Any, values: Array) -> None:
    """Make ``values``, of the same shape and dtype or one that is cast, those of an array, here or on a GPU."""
    if hasattr(array, "copy_to_device"):  # one of a GPU knows neither ``...`` nor other layouts
        array.copy_to_device(np.ascontiguousarray(values))
    else:
        array[...] = values


class ArrayDict(dict[str, Array]):
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

    def __ior__(self, other: Any) -> ArrayDict:  # type: ignore[override,misc]
        self.update(other)
        return self

    def _refuse(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise TypeError(f"The arrays of a module are fixed ({', '.join(self) or 'none'}); assign to them instead.")

    __delitem__ = clear = pop = popitem = setdefault = _refuse

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (dict(self),)
