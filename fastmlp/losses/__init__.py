"""Losses: ``forward(x, y, sample_weight) -> float``, ``backward(...) -> dx``, with PyTorch's mean reduction.

The classes in each file's ``__all__`` are registered; the formula of one is the file of `_kernels.formulas.losses`
that its ``kernel`` names.
"""

from __future__ import annotations

from .._common.registry import Registry
from .base import Loss
from .classwise import ClasswiseLoss
from .elementwise import ElementwiseLoss

__all__ = ["ClasswiseLoss", "ElementwiseLoss", "Loss", "loss_types", "register_loss"]

_registry = Registry(Loss, lambda kind: (kind.__name__,))


def register_loss(kind: type[Loss]) -> type[Loss]:
    """Make a class known by its name: to run folders that were trained with it. May be a decorator.

    Parameters
    ----------
    kind : type
        A class derived from `Loss`, or from `ElementwiseLoss` or `ClasswiseLoss` with a ``kernel`` that names a formula
        which exists or which `_kernels.formulas.register` has been given. One with a ``_call`` of its own trains module
        by module, which is slower than the engine and says so once.

    Raises
    ------
    ValueError
        If it is no such class, or another loss has its name.
    """
    return _registry.add(kind)


def loss_types() -> tuple[type[Loss], ...]:
    """The classes of all losses."""
    return _registry.types()


globals().update(_registry.add_files(__name__, __path__, skip=["base", "classwise", "elementwise"]))
