"""The optimizers of the registry for tests: examples of them, and each one's update written out.

A file by an optimizer's name in the registry has ``update(o, t, g, p, s)``: the parameter after the t-th step, t from
1, of the optimizer ``o`` with the gradient ``g``, as docs/derivations.md writes it. The dict ``s`` is empty before the
first step and holds, under the names of ``o.state``, what the steps keep.
"""

from __future__ import annotations

import importlib
import inspect
from functools import partial

import fastmlp as fm
from fastmlp.optim import optimizer_types

SHARED = {"lr", "clip_norm", "clip_value", "param_groups"}  # arguments that `Optimizer` itself deals with


def update(optimizer):
    """The update of an optimizer, written out."""
    return importlib.import_module(f"optimizers.{type(optimizer).__name__.lower()}").update


def remake(optimizer, **arguments):
    """Another such optimizer, some of whose arguments are others."""
    config = {**optimizer.config(), **arguments}
    return getattr(fm, config.pop("type"))(**config)


def own_arguments(kind):
    """The names and defaults of a class's arguments but for `SHARED`."""
    parameters = inspect.signature(kind).parameters
    return {name: parameter.default for name, parameter in parameters.items() if name not in SHARED}


# Functions that make an optimizer, by name; they take arguments beside.
EXAMPLES = {
    f"{name} {number}": partial(remake, example)
    for name, kind in optimizer_types().items()
    for number, example in enumerate(kind.examples())
}
