"""Optimizers with PyTorch's formulas and defaults, and learning-rate schedules.

The package finds the classes in the files by itself. The ``kernel`` of a class names its formula, a file of
`_kernels.formulas.optimizers`.
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
    """Register a class by its name in lower case, for example for ``fastmlp train --optimizer``; usable as a decorator.

    Parameters
    ----------
    kind : type
        A subclass of `Optimizer` with ``numbers`` and a ``kernel`` that names an existing formula, or one that was
        passed to `_kernels.formulas.register`. A subclass with its own ``kinds`` and ``_update`` needs no formula; a
        model then trains module by module, which is slower than the engine and issues a warning once.

    Raises
    ------
    ValueError
        If ``kind`` is not such a class, or its name is taken.

    Examples
    --------
    >>> import fastmlp as fm
    >>> @fm.register_optimizer
    ... class SlowAdam(fm.Adam):
    ...     def __init__(self, lr=1e-4):
    ...         super().__init__(lr)
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
    """Return the classes of all optimizers that change parameters, by name in lower case."""
    return {name: _registry[name] for name in _registry if _registry[name].trains}


def is_registered(kind: type[Optimizer]) -> bool:
    """Return whether a class is built in or registered by `register_optimizer`."""
    return kind in _registry.types()


globals().update(_registry.add_files(__name__, __path__, skip=["base", "groups", "schedule", "schedules", "state"]))
