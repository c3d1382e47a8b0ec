"""Calls of compiled kernels in Python, where the package was installed without its extension modules."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..cpu.declare import Argument

__all__ = ["Kernel"]

_Entry = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p)


class Kernel:
    """Kernel that is called with numbers and contiguous NumPy arrays, as `native.Kernel`, which takes a tenth as long.

    Parameters
    ----------
    name : str
    arguments : sequence of Argument
    result : str or None
        Element type of the result.
    versions : sequence of (str, str)
        Dtypes that may stand for "real" and "source"; "" where the kernel has no such argument.
    address : function
        Function of two dtypes that returns the address of that version. It is called before the first call of each.

    Raises
    ------
    TypeError
        If a call has an argument of another kind.
    """

    def __init__(
        self,
        name: str,
        arguments: Sequence[Argument],
        result: str | None,
        versions: Sequence[tuple[str, str]],
        address: Callable[[str, str], int],
    ) -> None:
        self.name, self.arguments, self._result = name, tuple(arguments), result
        self._versions, self._address = tuple(versions), address
        self._entries: dict[tuple[str, str], Any] = {}
        self._count = 1 + sum(1 + argument.dimensions for argument in self.arguments)

    def __call__(self, *args: Any) -> Any:
        return self.bind(*args)()

    def bind(self, *args: Any) -> Callable[[], Any]:
        """Return the call with these arguments as a function without arguments, which reads the arrays anew each time.

        Raises
        ------
        TypeError
            If an argument is of another kind.
        """
        if len(args) != len(self.arguments):
            raise TypeError(f"{self.name} takes {len(self.arguments)} arguments, got {len(args)}.")
        dtypes = self._dtypes(args)
        if dtypes not in self._entries:
            self._entries[dtypes] = _Entry(self._address(*dtypes))
        entry, integers = self._entries[dtypes], np.zeros(self._count, np.int64)
        floats = integers.view(np.float64)
        slot = 0
        for argument, value in zip(self.arguments, args, strict=True):
            if argument.dimensions:
                integers[slot : slot + 1 + argument.dimensions] = value.ctypes.data, *value.shape
            elif argument.element in ("int64", "uint64"):
                integers[slot] = int(value) - (1 << 64) if value >= 1 << 63 else int(value)
            else:
                floats[slot] = value
            slot += 1 + argument.dimensions
        start, results = integers.ctypes.data, integers if self._result == "int64" else floats

        def call(keep: Any = args) -> Any:
            entry(start, start)
            return None if self._result is None else results[slot].item()

        return call

    def _dtypes(self, args: Sequence[Any]) -> tuple[str, str]:
        """Return the dtypes that stand for "real" and "source" in a call, whose arguments are checked."""
        standing = {"real": "", "source": ""}
        choices = dict(zip(standing, map(set, zip(*self._versions, strict=True)), strict=True))
        for i, (argument, value) in enumerate(zip(self.arguments, args, strict=True)):
            if not argument.dimensions:
                continue
            if not isinstance(value, np.ndarray):
                raise self._wrong(i, value)
            if argument.element in standing and not standing[argument.element]:
                if value.dtype.name not in choices[argument.element]:
                    raise self._wrong(i, value)
                standing[argument.element] = value.dtype.name
            element = standing.get(argument.element, argument.element)
            if (value.dtype.name, value.ndim, value.flags.c_contiguous) != (element, argument.dimensions, True):
                raise self._wrong(i, value)
        return standing["real"], standing["source"]

    def _wrong(self, i: int, value: Any) -> TypeError:
        element, dimensions = self.arguments[i]
        seen = f"{value.dtype} array of shape {value.shape}" if isinstance(value, np.ndarray) else type(value).__name__
        return TypeError(
            f"Argument {i} of {self.name} is a {seen}; expected a contiguous {element} array of {dimensions} "
            "dimensions."
        )
