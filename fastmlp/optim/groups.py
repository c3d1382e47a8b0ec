"""Parameter groups of an optimizer: some parameters with hyperparameters of their own."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from .._common.validation import as_number

if TYPE_CHECKING:
    from .base import Optimizer

__all__ = ["Groups", "as_groups", "group_of_names", "variants"]

# ((name, value), ...) of each group, which cannot be modified, so that the engine sees every change.
Groups = tuple[tuple[tuple[str, Any], ...], ...]

_OWN = ("params", "lr", "lr_scale")


def as_groups(groups: Any, kind: type[Optimizer]) -> Groups:
    """Check the argument ``param_groups`` of an optimizer.

    Raises
    ------
    ValueError
        If a group is not a dict with ``params``, or an option is not one of the optimizer or out of range.
    """
    if groups is None:
        return ()
    if isinstance(groups, Mapping) or not isinstance(groups, Iterable):
        raise ValueError(f"param_groups is a {type(groups).__name__}; expected a list of dicts with 'params'.")
    arguments = set(inspect.signature(kind).parameters) - {"clip_norm", "clip_value", "param_groups"}
    options = sorted({*arguments, "lr", "lr_scale"})
    found = []
    for number, group in enumerate(groups):
        where = f"param_groups[{number}]"
        if not isinstance(group, Mapping) or "params" not in group:
            raise ValueError(f"{where} is {str(group)[:60]!r}; expected a dict with 'params'.")
        params = (group["params"],) if isinstance(group["params"], str) else tuple(group["params"])
        if not params or not all(isinstance(name, str) for name in params):
            raise ValueError(
                f"{where} has the params {str(params)[:60]}; expected names, such as '0.weight' or '*.bias'."
            )
        own = {name: value for name, value in group.items() if name != "params"}
        for name in own:
            if name not in options:
                raise ValueError(f"{where} has the option {name!r}; expected {', '.join(options)}.")
        if "lr" in own and "lr_scale" in own:
            raise ValueError(f"{where} has both lr and lr_scale; expected one of them.")
        for name in own.keys() & {"lr", "lr_scale"}:
            own[name] = as_number(own[name], f"{where}: {name}", 0)
        others = {name: value for name, value in own.items() if name not in _OWN}
        # The class checks the others, and converts them to what it keeps.
        kept = vars(kind(**({"lr": 0.0} if "lr" in arguments else {}), **others)) if others else {}
        found.append((("params", params), *{**own, **{name: kept[name] for name in others}}.items()))
    return tuple(found)


def group_of_names(groups: Groups, names: list[str]) -> dict[str, int]:
    """Return the number of each parameter's group, from 1; 0 for parameters of no group.

    Raises
    ------
    ValueError
        If a pattern fits no parameter, or a parameter is in two groups.
    """
    found = dict.fromkeys(names, 0)
    for number, group in enumerate(groups, 1):
        for pattern in dict(group)["params"]:
            matches = [name for name in names if fnmatchcase(name, pattern)]
            if not matches:
                close = difflib.get_close_matches(pattern, names, 3) or names[:3]
                raise ValueError(
                    f"param_groups[{number - 1}] names {pattern!r}, which is no parameter of the model; expected names "
                    f"such as {', '.join(map(repr, close))}."
                )
            for name in matches:
                if found[name] not in (0, number):
                    raise ValueError(
                        f"{name!r} is in param_groups[{found[name] - 1}] and in param_groups[{number - 1}]; expected "
                        "one group at most."
                    )
                found[name] = number
    return found


def variants(groups: Groups, optimizer: Optimizer) -> list[tuple[Optimizer, float | None, float]]:
    """Return for each group (optimizer with its options, its constant rate or None, factor of the rates)."""
    found = []
    for group in groups:
        own = dict(group)
        made = object.__new__(type(optimizer))
        made.__dict__.update(vars(optimizer))
        made.__dict__.update({name: value for name, value in own.items() if name not in _OWN})
        found.append((made, own.get("lr"), own.get("lr_scale", 1.0)))
    return found
