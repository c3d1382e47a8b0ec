"""Optimizers with PyTorch's formulas and defaults, and learning-rate schedules.

Each optimizer's file has its classes, found by the package itself; its formula is a file of
`_kernels.formulas.optimizers` under its ``kernel``.
"""

from __future__ import annotations

from .._common.registry import Registry
from .._kernels.formulas import find
from .._kernels.formulas.optimizers import MOST_NUMBERS, MOST_STATES
from .base import Optimizer
from .schedules import (
    Constant,
    Cosine,
    Exponential,
    LinearWarmup,
    OneCycle,
    ReduceOnPlateau,
    Schedule,
    StepDecay,
)

__all__ = [
    "Constant",
    "Cosine",
    "Exponential",
    "LinearWarmup",
    "OneCycle",
    "Optimizer",
    "ReduceOnPlateau",
    "Schedule",
    "StepDecay",
    "is_registered",
    "optimizer_types",
    "register_optimizer",
]

_registry = Registry(Optimizer, lambda kind: (kind.__name__.lower(),))


def register_optimizer(kind: type[Optimizer]) -> type[Optimizer]:
    """Make a class known by its name in lower case: to ``fastmlp train --optimizer``. May be a decorator.

    Parameters
    ----------
    kind : type
        A class derived from `Optimizer` with ``numbers`` and a ``kernel`` that names a formula which exists or which
        `_kernels.formulas.register` has been given. One with ``kinds`` and an ``_update`` of its own needs no formula;
        it trains module by module, which is slower than the engine and says so once.

    Raises
    ------
    ValueError
        If it is no such class, or another optimizer has its name.
    """
    if isinstance(kind, type) and issubclass(kind, Optimizer) and kind._update is Optimizer._update:
        _require_formula(kind)
    return _registry.add(kind)


def _require_formula(kind: type[Optimizer]) -> None:
    kernel = getattr(kind, "kernel", None)
    try:
        formula = find("optimizers", str(kernel))
    except KeyError as error:
        raise ValueError(f"The kernel of {kind.__name__} is {kernel!r}. {error.args[0]}") from None
    states, numbers = len(formula.STATES), len(formula.NUMBERS)
    if not (1 <= states <= MOST_STATES and numbers <= MOST_NUMBERS):
        raise ValueError(
            f"The formula {kernel!r} has {states} states and {numbers} numbers; expected 1 to {MOST_STATES} states and "
            f"at most {MOST_NUMBERS} numbers."
        )


def optimizer_types() -> dict[str, type[Optimizer]]:
    """The classes of all optimizers that train, by name in lower case."""
    return {name: _registry[name] for name in _registry if _registry[name].trains}


def is_registered(kind: type[Optimizer]) -> bool:
    """Whether the class is one of fastmlp's or was given to `register_optimizer`."""
    return kind in _registry.types()


globals().update(_registry.add_files(__name__, __path__, skip=["base", "schedule", "schedules", "state"]))
