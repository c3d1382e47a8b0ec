"""A model as a flat list of what it computes, for all that run or write it without the module API."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from ..modules import Activation, Dropout, LayerNorm, Linear, Module, Normalize, Sequential, Softmax
from ..modules.activations import activation_types
from ..modules.activations.identity import Identity
from ..modules.base import is_plain

__all__ = ["activation_step", "is_chain", "leaves", "require_model", "steps_of"]


def require_model(model: object, where: str, *, sized: bool = False) -> None:
    """Raise ValueError where ``model`` is no module, or with ``sized`` one that takes any width or dtype."""
    if not isinstance(model, Module):
        raise ValueError(f"{where} expected a fastmlp module, got {type(model).__name__}.")
    if sized and (model.in_width is None or model.dtype is None):
        raise ValueError(f"{where} expected a model with a Linear, LayerNorm or Normalize; this one takes any width.")


def is_chain(model: Module) -> bool:
    """Whether a model computes what the modules inside it do, one after the other.

    A subclass of `Sequential` that defines a step of its own does not, whatever it has inside.
    """
    steps = ("__call__", "forward", "infer", "_compute")
    return isinstance(model, Sequential) and all(
        getattr(type(model), name) is getattr(Sequential, name) for name in steps
    )


def leaves(model: Module) -> Iterator[Module]:
    """The modules that compute something in evaluation, in order."""
    if is_chain(model):
        for _, inner in model.children():
            yield from leaves(inner)
    elif not isinstance(model, (Dropout, Identity)):
        yield model


def activation_step(width: int | None, code: int, alpha: float = 0.0) -> tuple[Any, ...]:
    """The step of an activation, see `Plan`."""
    return ("activation", width, code, alpha)


def steps_of(model: Module, activations: Sequence[str]) -> list[tuple[Any, ...]] | None:
    """The steps of a `Plan`, an activation as part of the Linear before it; None for a model that has none.

    That is one with modules of other makers, without a width, or without a dtype. An activation's code is its place
    among ``activations``.
    """
    if model.in_width is None or model.dtype is None:
        return None
    linear = activations.index("identity")
    steps: list[tuple[Any, ...]] = []
    width = model.in_width
    for module in leaves(model):
        move = module.backend.to_numpy
        arrays = {name: move(array) for part in (module.params, module.buffers) for name, array in part.items()}
        if type(module) is Linear:
            width = module.out_features
            steps.append(("linear", arrays["weight"], arrays.get("bias"), linear, 0.0))
        elif isinstance(module, Activation) and _is_known(module):
            if module.kind not in activations:
                return None
            code = activations.index(module.kind)
            if steps and steps[-1][0] == "linear" and steps[-1][3] == linear:
                steps[-1] = (*steps[-1][:3], code, module.alpha)
            else:
                steps.append(activation_step(width, code, module.alpha))
        elif type(module) is LayerNorm:
            steps.append(("layer_norm", width, arrays.get("weight"), arrays.get("bias"), module.eps))
        elif type(module) is Softmax:
            steps.append(("softmax", width))
        elif type(module) is Normalize:
            steps.append(("normalize", arrays["mean"], arrays["scale"]))
        else:
            return None
    return steps


def _is_known(module: Activation) -> bool:
    """Whether it is of a registered class, and computes by its formula."""
    return type(module) in activation_types() and is_plain(module, Activation, "_compute")
