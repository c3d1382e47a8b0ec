"""Callback: what `Trainer.fit` calls at its beginning, steps, evaluations and end."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from .._common.errors import ResumeError
from .history import Record

if TYPE_CHECKING:
    from ..training.trainer import Trainer

__all__ = ["Callback", "CallbackList", "as_callbacks"]


class Callback:
    """What `Trainer.fit` calls; override what you need.

    A callback need not derive from this class: an object with some of these methods will do, and a plain
    function ``f(trainer, record)`` is called at each evaluation. ``trainer.stop()`` ends the run after
    the current step.

    Attributes
    ----------
    may_change_model : bool
        Whether its `on_evaluation` may write to the model's or the optimizer's arrays: False saves the trainer to look.
    looks_at_model : bool
        Whether its `on_progress` may read or write these arrays: False saves the trainer to have them ready, and
        to keep those of the last evaluation apart.
    """

    may_change_model: bool = True
    looks_at_model: bool = True

    def on_fit_begin(self, trainer: Trainer) -> None:
        """Before the first step; ``trainer.planned_steps`` says how many there will be."""

    def on_step(self, trainer: Trainer, step: int, loss: float) -> None:
        """After update number ``step`` (from 1, over all fits), whose batch had the loss ``loss``."""

    def on_progress(self, trainer: Trainer) -> None:
        """Every few hundredths of a second, between two steps; ``trainer.steps`` says how far it has come.

        Unlike `on_step`, which has the trainer come back to Python after each update, it costs nothing.
        """

    def on_evaluation(self, trainer: Trainer, record: Record) -> None:
        """After each evaluation; for the record's keys see `History`."""

    def on_fit_end(self, trainer: Trainer) -> None:
        """When the run ends, by an error or an interruption too."""


def as_callbacks(callbacks: Any) -> list[Any]:
    """What is given as ``callbacks``: several, one, or None, as a list."""
    if callbacks is None:
        return []
    listens = any(hasattr(callbacks, event) for event in CallbackList._EVENTS)
    if listens or isinstance(callbacks, (str, bytes, type)) or not hasattr(callbacks, "__iter__"):
        return [callbacks]
    return list(callbacks)


class CallbackList:
    """The callbacks of one fit, checked once and sorted by what they listen to."""

    _EVENTS = ("on_fit_begin", "on_step", "on_progress", "on_evaluation", "on_fit_end")

    def __init__(self, callbacks: Any) -> None:
        self._listeners: dict[str, list[Callable[..., None]]] = {event: [] for event in self._EVENTS}
        self.may_change_model = self.looks_at_model = False
        # Those with a state that belongs to the fit's: pairs (fit for JSON, arrays or None).
        self.remembering: list[Any] = []
        for callback in as_callbacks(callbacks):
            methods = {event: getattr(callback, event) for event in self._EVENTS if hasattr(callback, event)}
            if not methods and callable(callback):
                methods = {"on_evaluation": callback}
            if not methods or isinstance(callback, type):
                raise ValueError(
                    f"callbacks holds {callback!r}; expected functions f(trainer, record), or objects with "
                    f"one of {', '.join(self._EVENTS)}."
                )
            if hasattr(callback, "state_dict") and hasattr(callback, "load_state_dict"):
                self.remembering.append(callback)
            for event, method in methods.items():
                # An event that a subclass leaves alone is not worth a call at each step.
                if getattr(method, "__func__", None) is not getattr(Callback, event):
                    self._listeners[event].append(method)
                    if event == "on_evaluation" and getattr(callback, "may_change_model", True):
                        self.may_change_model = True
                    if event == "on_step" or (event == "on_progress" and getattr(callback, "looks_at_model", True)):
                        self.looks_at_model = True

    def listens(self, event: str) -> bool:
        """Whether any of them wants to know."""
        return bool(self._listeners[event])

    def __getattr__(self, event: str) -> Callable[..., None]:
        listeners = self.__dict__["_listeners"][event]

        def call(*arguments: Any) -> None:
            for listener in listeners:
                listener(*arguments)

        return call

    def state_dict(self) -> list[dict[str, Any]]:
        """Of each that remembers: ``type``, and what its ``state_dict`` gives, ``state`` and ``arrays``."""
        return [
            {"type": type(listener).__name__, "state": state, "arrays": arrays}
            for listener in self.remembering
            for state, arrays in (listener.state_dict(),)
        ]

    def load_state_dict(self, entries: list[dict[str, Any]], where: Any) -> None:
        """Give what `state_dict` gave, as it was read from ``where``.

        Raises
        ------
        ResumeError
            If it is that of callbacks of other types.
        """
        there, here = [entry["type"] for entry in entries], [type(one).__name__ for one in self.remembering]
        if there != here:
            raise ResumeError(
                f"{where} cannot be resumed: it was saved with the callbacks {there}, here they are {here}."
            )
        for listener, entry in zip(self.remembering, entries, strict=True):
            listener.load_state_dict(entry["state"], entry["arrays"])

    @contextlib.contextmanager
    def running(self, trainer: Trainer, *, resumed: bool = False) -> Iterator[None]:
        """on_fit_begin now, and on_fit_end of every callback when the block ends, however it ends.

        ``resumed``: those that remember have begun already.
        """
        with contextlib.ExitStack() as ends:
            for end in reversed(self._listeners["on_fit_end"]):
                ends.callback(end, trainer)
            for begin in self._listeners["on_fit_begin"]:
                if not (resumed and getattr(begin, "__self__", None) in self.remembering):
                    begin(trainer)
            yield
