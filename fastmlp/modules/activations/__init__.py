"""Element-wise activations: each file has a class, found by the package itself, and a formula under its ``kind``."""

from __future__ import annotations

from ..._common.registry import Registry
from ..._kernels import formulas
from .base import Activation

__all__ = ["Activation", "activation_from_name", "activation_names", "activation_types", "register_activation"]


def _names_of(kind: type[Activation]) -> tuple[str, ...]:
    return tuple(kind.names) or (kind.kind,)


_registry = Registry(Activation, _names_of)


def register_activation(kind: type[Activation]) -> type[Activation]:
    """Make a class known by name: to `MLP`, saved files, the estimators and the command line. May be a decorator.

    Parameters
    ----------
    kind : type
        A class derived from `Activation`. Its ``kind`` names a formula that exists, or one that
        `_kernels.formulas.register` has been given; without one it overrides ``_compute`` and ``_gradient``, and trains
        module by module, which is slower than the engine and says so once.

    Raises
    ------
    ValueError
        If it is no such class, one of its names is taken, or it has neither a formula nor a ``_compute``.
    """
    computes = getattr(kind, "_compute", None) is not Activation._compute
    if not computes and not {kind.kind, *kind.names} & {*formulas.names("activations")}:
        raise ValueError(
            f"{kind.__name__}.kind is {kind.kind!r}, and there is no formula of that name; expected one that "
            "_kernels.formulas.register has been given, or methods _compute and _gradient."
        )
    return _registry.add(kind)


def activation_types() -> tuple[type[Activation], ...]:
    """The classes of all activations."""
    return _registry.types()


def activation_names() -> tuple[str, ...]:
    """The names that `activation_from_name` takes."""
    return tuple(_registry)


def activation_from_name(name: str) -> Activation:
    """Return a new activation.

    Parameters
    ----------
    name : str
        In lower case, as `MLP` lists them.

    Raises
    ------
    ValueError
        If there is none of that name.
    """
    if name not in _registry:
        raise ValueError(f"activation is {name!r}; expected one of {', '.join(map(repr, _registry))}.")
    kind = _registry[name]
    return kind(**kind.names.get(name, {}))


globals().update(_registry.add_files(__name__, __path__, skip=["base"]))  # also for pickles, which name this package
