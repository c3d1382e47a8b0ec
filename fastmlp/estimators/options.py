"""Validation of an estimator's parameters beyond their types."""

from __future__ import annotations

from numbers import Integral
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.utils._param_validation import InvalidParameterError

from ..callbacks.base import CallbackList, as_callbacks
from ..training.augmentation import as_list

if TYPE_CHECKING:
    from .base import BaseMLP

__all__ = ["STOCHASTIC", "require_options"]

STOCHASTIC = ("sgd", "adam")  # solvers that train in batches


def require_options(net: BaseMLP, incremental: bool, X_val: Any, y_val: Any) -> list[int]:
    """Validate the parameters and their combinations, and return the widths of the hidden layers.

    A parameter that scikit-learn lacks is an error if the solver does not use it. scikit-learn's own parameters are
    ignored by solvers that do not use them, as documented.

    Raises
    ------
    ValueError
        If a parameter is out of range or does not fit the others.
    """
    sizes = _widths(net.hidden_layer_sizes)
    if (X_val is None) != (y_val is None):
        raise ValueError("fit got one of X_val and y_val; expected both or none.")
    if net.early_stopping and incremental:
        raise ValueError("partial_fit does not support early_stopping=True")
    for name, kind in (("augment", as_list), ("callbacks", CallbackList), ("scoring", _require_scoring)):
        given = getattr(net, name)
        try:
            if hasattr(given, "__next__"):
                raise ValueError(f"{name} is {given!r}, which can be iterated once only; expected a list.")
            kind(given)
        except ValueError as error:
            raise InvalidParameterError(f"The {name!r} parameter of {type(net).__name__}: {error}") from None
    for_steps = {
        "augment": as_list(net.augment),
        "dropout": net.dropout,
        "callbacks": as_callbacks(net.callbacks),
        "progress_bar": net.progress_bar,
        "scoring": net.scoring is not None,
        "X_val": X_val is not None,
    }
    for name in ("callbacks", "progress_bar"):
        if for_steps[name] and net.n_nets > 1:
            raise ValueError(f"{name} is for a single net, got n_nets={net.n_nets}; expected n_nets=1.")
    for name, used in for_steps.items():
        if used and net.solver not in STOCHASTIC:
            raise ValueError(f"{name} is for the solvers sgd and adam, not for {net.solver}.")
    return sizes


def _widths(given: Any) -> list[int]:
    several = hasattr(given, "__iter__") and getattr(given, "ndim", None) != 0  # 0-d arrays have __iter__ too
    sizes = list(given) if several else [given]
    if any(isinstance(size, (bool, np.bool_)) or not isinstance(size, Integral) for size in sizes):
        raise InvalidParameterError(f"hidden_layer_sizes is {given!r}; expected integers, such as (100,).")
    if any(size <= 0 for size in sizes):
        raise ValueError(f"hidden_layer_sizes must be > 0, got {sizes}.")
    return [int(size) for size in sizes]


def _require_scoring(scoring: Any) -> None:
    """Raise ValueError if ``scoring`` is a name that scikit-learn does not know."""
    if isinstance(scoring, str) and scoring != "loss":
        from sklearn.metrics import get_scorer_names

        if scoring not in get_scorer_names():
            raise ValueError(f"scoring is {scoring!r}; expected 'loss', or one of sklearn.metrics.get_scorer_names().")
