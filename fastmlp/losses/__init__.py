"""Losses with PyTorch's mean reduction: ``forward(x, y, sample_weight) -> float``, ``backward(...) -> dx``.

The package registers the classes in each file's ``__all__``. The ``kernel`` of a class names its formula, a file of
`_kernels.formulas.losses`.
"""

from __future__ import annotations

from .._common.registry import Registry
from .base import Loss
from .classwise import ClasswiseLoss
from .elementwise import ElementwiseLoss

__all__ = ["ClasswiseLoss", "ElementwiseLoss", "Loss", "loss_types", "register_loss"]

_registry = Registry(Loss, lambda kind: (kind.__name__,))


def register_loss(kind: type[Loss]) -> type[Loss]:
    """Register a class by name, for example for run folders that use it; usable as a decorator.

    Parameters
    ----------
    kind : type
        A subclass of `Loss`; or one of `ElementwiseLoss` or `ClasswiseLoss` with a ``kernel`` that names an existing
        formula, or one that was passed to `_kernels.formulas.register`. A model with a loss that overrides ``_call``
        trains module by module, which is slower than the engine and issues a warning once.

    Raises
    ------
    ValueError
        If ``kind`` is not such a class, or its name is taken.

    Examples
    --------
    >>> import fastmlp as fm
    >>> @fm.register_loss
    ... class HalfSquaredLoss(fm.MSELoss):
    ...     def __init__(self):
    ...         super().__init__(half=True)
    """
    return _registry.add(kind)


def loss_types() -> tuple[type[Loss], ...]:
    """Return the classes of all losses."""
    return _registry.types()


globals().update(_registry.add_files(__name__, __path__, skip=["base", "classwise", "elementwise"]))
