"""Deprecation of public names and arguments: a warning that names the replacement and the release that removes it."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import ParamSpec, TypeVar

__all__ = ["deprecated", "renamed_argument"]

_P = ParamSpec("_P")
_R = TypeVar("_R")


def deprecated(instead: str, *, since: str, removed: str) -> Callable[[Callable[_P, _R]], Callable[_P, _R]]:
    """Decorate a public function that a later release removes.

    Parameters
    ----------
    instead : str
        Code to use in its place.
    since : str
        First release that warns.
    removed : str
        Release without the function.

    Returns
    -------
    callable
        Decorator; the decorated function warns with a FutureWarning, which Python shows by default, at the line of
        the caller.

    Examples
    --------
    >>> @deprecated("fastmlp.load_model(path)", since="0.2", removed="0.4")
    ... def read_model(path): ...
    """

    def decorate(function: Callable[_P, _R]) -> Callable[_P, _R]:
        text = (
            f"{function.__name__} is deprecated since fastmlp {since} and will be removed in {removed}; use {instead}."
        )

        @functools.wraps(function)
        def warned(*args: _P.args, **kwargs: _P.kwargs) -> _R:
            warnings.warn(text, FutureWarning, stacklevel=2)
            return function(*args, **kwargs)

        return warned

    return decorate


def renamed_argument(old: str, new: str, *, since: str, removed: str) -> Callable[[Callable[_P, _R]], Callable[_P, _R]]:
    """Decorate a public function whose argument ``old`` is now called ``new``.

    Parameters
    ----------
    old, new : str
        Keywords before and after the change.
    since : str
        First release that warns.
    removed : str
        Release that no longer takes ``old``.

    Returns
    -------
    callable
        Decorator; the decorated function takes both keywords, warns about the old one with a FutureWarning, and raises
        TypeError if it is given both.

    Examples
    --------
    >>> @renamed_argument("momentum", "beta", since="0.2", removed="0.4")
    ... def average(values, beta=0.9): ...
    """

    def decorate(function: Callable[_P, _R]) -> Callable[_P, _R]:
        name = function.__qualname__.removesuffix(".__init__")
        text = (
            f"The argument {old}= of {name} is deprecated since fastmlp {since} and will be removed in {removed}; "
            f"use {new}=."
        )

        @functools.wraps(function)
        def renamed(*args: _P.args, **kwargs: _P.kwargs) -> _R:
            if old in kwargs:
                if new in kwargs:
                    raise TypeError(f"{name} got both {old}= and {new}=; expected {new}= alone.")
                warnings.warn(text, FutureWarning, stacklevel=2)
                kwargs[new] = kwargs.pop(old)
            return function(*args, **kwargs)

        return renamed

    return decorate
