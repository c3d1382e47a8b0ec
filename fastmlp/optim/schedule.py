"""Schedule: base class of the learning-rate schedules."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["Schedule"]


class Schedule:
    """Base class of the learning-rate schedules.

    A subclass defines ``__call__``, and stores its arguments as attributes of the same names, which `config` reads.

    Parameters
    ----------
    lr : float
        Initial rate of the formula, at least 0; not an argument of `LinearWarmup`.

    Raises
    ------
    ValueError
        If an argument is out of range, in all subclasses.
    """

    def __call__(self, step: int) -> float:
        """Return the learning rate of step ``step``."""
        raise NotImplementedError(f"{type(self).__name__} gives no rate.")

    def update(self, value: float) -> None:
        """Report the loss of an evaluation; most schedules ignore it."""

    def config(self) -> dict[str, Any]:
        """Return the type and the arguments that rebuild the schedule; JSON-serializable."""
        arguments = {name: value for name, value in vars(self).items() if not name.startswith("_")}
        return {"type": type(self).__name__, **arguments}

    def state_dict(self) -> dict[str, Any]:
        """Return the state that depends on `update`; JSON-serializable."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a result of `state_dict`.

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
