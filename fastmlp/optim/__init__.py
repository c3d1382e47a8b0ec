"""Optimizers with PyTorch's formulas and defaults, and learning-rate schedules.

Each optimizer's file has its classes, found by the package itself; its formula is a file of
`_kernels.formulas.optimizers` under its ``kernel``.
"""

from __future__ import annotations

from .._common.registry import Registry
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
        `_kernels.formulas.register` has been given. One with an ``_update`` of its own trains module by module, which
        is slower than the engine and says so once.

    Raises
    ------
    ValueError
        If it is no such class, or another optimizer has its name.
    """
    return _registry.add(kind)


def optimizer_types() -> dict[str, type[Optimizer]]:
    """The classes of all optimizers that train, by name in lower case."""
    return {name: _registry[name] for name in _registry if _registry[name].trains}


def is_registered(kind: type[Optimizer]) -> bool:
    """Whether the class is one of fastmlp's or was given to `register_optimizer`."""
    return kind in _registry.types()


globals().update(_registry.add_files(__name__, __path__, skip=["base", "schedule", "schedules"]))
