"""Element-wise activations, one class a file, found automatically; ``kind`` names the formula of a class."""

from __future__ import annotations

from ..._common.registry import Registry
from ..._kernels import formulas
from .base import Activation

__all__ = ["Activation", "activation_from_name", "activation_names", "activation_types", "register_activation"]


def _names_of(kind: type[Activation]) -> tuple[str, ...]:
    return tuple(kind.names) or (kind.kind,)


_registry = Registry(Activation, _names_of)


def register_activation(kind: type[Activation]) -> type[Activation]:
    """Register a class by name for `MLP`, saved files, the estimators and the command line; usable as a decorator.

    Parameters
    ----------
    kind : type
        A subclass of `Activation`. Its ``kind`` names an existing formula, or one that was passed to
        `_kernels.formulas.register`. A class without a formula overrides ``_compute`` and ``_gradient``; a model
        with it trains module by module, which is slower than the engine and issues a warning once.

    Raises
    ------
    ValueError
        If ``kind`` is not such a class, one of its names is taken, or it has neither a formula nor a ``_compute``.

    Examples
    --------
    >>> import numpy as np
    >>> import fastmlp as fm
    >>> @fm.register_activation
    ... class Sine(fm.Activation):
    ...     kind = "sine"
    ...     def _compute(self, x, keep):
    ...         if keep:
    ...             self._saved = (x,)
    ...         return np.sin(x)
    ...     def _gradient(self, dy, need_dx):
    ...         return dy * np.cos(self._saved[0])
    >>> model = fm.MLP(4, [8], 2, activation="sine", rng=0)
    """
    computes = getattr(kind, "_compute", None) is not Activation._compute
    if not computes and not {kind.kind, *kind.names} & {*formulas.names("activations")}:
        raise ValueError(
            f"{kind.__name__}.kind is {kind.kind!r}, and there is no formula of that name; expected one that "
            "_kernels.formulas.register has been given, or methods _compute and _gradient."
        )
    return _registry.add(kind)


def activation_types() -> tuple[type[Activation], ...]:
    """Return the classes of all activations."""
    return _registry.types()


def activation_names() -> tuple[str, ...]:
    """Return the names that `activation_from_name` accepts."""
    return tuple(_registry)


def activation_from_name(name: str) -> Activation:
    """Return a new activation of a name.

    Parameters
    ----------
    name : str
        Name in lower case, see `activation_names`.

    Raises
    ------
    ValueError
        If there is no activation of that name.
    """
    if name not in _registry:
        raise ValueError(f"activation is {name!r}; expected one of {', '.join(map(repr, _registry))}.")
    kind = _registry[name]
    return kind(**kind.names.get(name, {}))


globals().update(_registry.add_files(__name__, __path__, skip=["base"]))  # pickles refer to this package by name
