"""Schedule: what the schedules of `schedules` share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["Schedule"]


class Schedule:
    """Base of the schedules.

    A schedule of one's own defines ``__call__``, and keeps its arguments as attributes of the same names:
    `config` takes them from there.

    Parameters
    ----------
    lr : float
        Of all but `LinearWarmup`: the rate that the formula starts from, at least 0.

    Raises
    ------
    ValueError
        By all of them, if an argument is out of range.
    """

    def __call__(self, step: int) -> float:
        """The learning rate of step ``step``."""
        raise NotImplementedError(f"{type(self).__name__} gives no rate.")

    def update(self, value: float) -> None:
        """Take note of an evaluation's loss; most schedules do not depend on it."""

    def config(self) -> dict[str, Any]:
        """The type and the arguments that make the schedule again; fit for JSON."""
        arguments = {name: value for name, value in vars(self).items() if not name.startswith("_")}
        return {"type": type(self).__name__, **arguments}

    def state_dict(self) -> dict[str, Any]:
        """What the schedule has learnt from `update`; fit for JSON."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what `state_dict` gave.

        Raises
        ------
        ValueError
            If the names are not those of this schedule.
        """
        if set(state) != set(self.state_dict()):
            raise ValueError(f"The schedule's state has {sorted(state)}; expected {sorted(self.state_dict())}.")

    def __repr__(self) -> str:
        arguments = (f"{name}={value!r}" for name, value in self.config().items() if name != "type")
        return f"{type(self).__name__}({', '.join(arguments)})"
