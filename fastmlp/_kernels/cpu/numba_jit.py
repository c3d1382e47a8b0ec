"""Numba's settings for all kernels, and the functions that kernels are made of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
from numba.core import types
from numba.core.compiler import Compiler

__all__ = ["OPTIONS", "KernelCompiler", "compile_inline", "compile_once", "signature_of_types"]

OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy", "boundscheck": False}


class KernelCompiler(Compiler):
    """Numba compiler with `inline_pass`, which takes about a third less time for functions with many inline parts.

    If `inline_pass` cannot be imported with the installed Numba, Numba inlines the parts.
    """

    def define_pipelines(self) -> Any:
        passes = super().define_pipelines()
        try:
            from .inline_pass import with_inline_pass
        except (AttributeError, ImportError):
            return passes
        return [with_inline_pass(one) for one in passes]


def compile_once(function: Callable[..., Any]) -> Any:
    """Compile a function for each set of argument types when it is first called, from Python or compiled code."""
    return numba.njit(pipeline_class=KernelCompiler, **OPTIONS)(function)


def compile_inline(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a function in each of its callers, before type inference.

    LLVM's inlining would give the same speed. However, each part would first be optimized as a library of its own,
    which doubles the time of a first run.
    """
    inlined: Callable[..., Any] = numba.njit(inline="always", **OPTIONS)(function)
    return inlined


_POINTERS = {
    name: types.CPointer(getattr(types, name))  # type: ignore[attr-defined]
    for name in ("float32", "float64", "int64")
}


def signature_of_types(arguments: tuple[str, ...], dtype: str) -> Any:
    """Return Numba's signature of a C function without a result, see `jit.function_pointer`, for a dtype."""
    found = (argument.replace("real", dtype) for argument in arguments)
    return types.void(*(_POINTERS[one[:-1]] if one.endswith("*") else getattr(types, one) for one in found))
