"""Declarations of kernels: the arguments of each, by which it is compiled ahead of time and called as a C function.

A declared kernel becomes a C function ``void f(int64_t *slots, double *slots)``; both parameters are the same array of
8-byte slots. A number takes one slot, an array one for its address and one for each dimension; a result is written to
the slot after the arguments. A function called by address (`jit.function_pointer`) keeps its own C signature.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = [
    "Argument", "FLOAT", "FLOATS", "FLOAT_ROWS", "INT", "INTS", "INT_ROWS", "MATRIX", "ORDER", "REAL", "REALS",
    "SOURCE", "VECTOR", "WORD", "versions",
]  # fmt: skip


REALS = ("float32", "float64")
SOURCES = ("uint8", "float32", "float64")


class Argument(NamedTuple):
    """Element type and number of dimensions of an argument; 0 dimensions is a number.

    The element type ``real`` stands for the dtype of the kernel's version, ``source`` for that of the features.
    """

    element: str
    dimensions: int = 0


INT, FLOAT, WORD, REAL = (Argument(element) for element in ("int64", "float64", "uint64", "real"))
INTS, FLOATS, VECTOR, ORDER = (Argument(element, 1) for element in ("int64", "float64", "real", "uint32"))
INT_ROWS, FLOAT_ROWS, MATRIX, SOURCE = (Argument(element, 2) for element in ("int64", "float64", "real", "source"))


def versions(arguments: tuple[Argument, ...]) -> dict[tuple[str, str], str]:
    """Return the versions of a kernel: suffixes of their names by the dtypes that stand for "real" and "source".

    A dtype is "" where no argument has that element type.
    """
    elements = {argument.element for argument in arguments}
    reals = REALS if "real" in elements else ("",)
    sources = SOURCES if "source" in elements else ("",)
    return {
        (real, source): "".join(f"_{dtype}" for dtype in (real, source) if dtype)
        for real in reals
        for source in sources
    }
