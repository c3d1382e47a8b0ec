"""The activations of the registry, for tests; each has its curve in a file here that is named as its formula.

Such a file has ``h(x, alpha)`` and ``slope(x, alpha)``, and ``bounds(alpha)``: the curvature and the jump of `Curve`.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from dataclasses import dataclass

import fastmlp as fm
from fastmlp.modules.activations import activation_types


@dataclass
class Curve:
    """h and h' in float64, and in complex numbers near 0; what bounds of errors follow from.

    ``curvature`` bounds |h''| between the kinks, ``jump`` is the largest of h' at one; ``exact``: h only selects.
    """

    h: Callable
    slope: Callable
    curvature: float
    jump: float
    exact: bool = False
    kinks: tuple[float, ...] = ()


def _examples():
    with fm.use_backend("numpy"):
        made = [example for kind in activation_types() for example in kind.examples()]
        alphas = {name: fm.modules.activation_from_name(name).alpha for name in fm.modules.activation_names()}
    for example in made:
        name = example.kind
        yield name if example.alpha == alphas[name] else f"{name}-{example.alpha:g}", example


_made = dict(_examples())
# name of an example: a function that makes one on the current backend
EXAMPLES = {name: functools.partial(type(one).from_config, one.config()) for name, one in _made.items()}
KINKED = [name for name, one in _made.items() if one.has_kink]


def curve(kind, alpha=0.0):
    """The exact curve of a formula."""
    file = importlib.import_module(f"activations.{kind}")
    kinks = next((one.kinks for one in _made.values() if one.kind == kind and one.has_kink), ())
    h, slope = (functools.partial(function, alpha=alpha) for function in (file.h, file.slope))
    return Curve(h, slope, *file.bounds(alpha), getattr(file, "EXACT", False), kinks)
