"""Base class of callbacks, and the list of callbacks of a fit."""

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
    """Base class of callbacks, whose methods `Trainer.fit` calls; override the methods that you need.

    Derivation from this class is optional: any object with one of these methods is a callback, and a plain function
    ``f(trainer, record)`` is called at each evaluation. ``trainer.stop()`` ends the run after the current step.

    Attributes
    ----------
    may_change_model : bool
        Whether `on_evaluation` may write to arrays of the model or the optimizer. Set to False to skip the check for
        modified arrays.
    looks_at_model : bool
        Whether `on_progress` may read or write these arrays. Set to False to skip their synchronization with the
        engine, and the copy of the arrays of the last evaluation.
    every_rank : bool
        Whether the callback is called on each rank of a fit over a group; by default rank 0 alone calls it, and what
        it changes in the model and the optimizer's state reaches the others.

    Examples
    --------
    >>> import fastmlp as fm
    >>> class StopAtAccuracy(fm.Callback):
    ...     may_change_model = False
    ...     def on_evaluation(self, trainer, record):
    ...         if record["val_accuracy"] > 0.99:
    ...             trainer.stop()
    """

    may_change_model: bool = True
    looks_at_model: bool = True
    every_rank: bool = False

    def on_fit_begin(self, trainer: Trainer) -> None:
        """Called before the first step; ``trainer.planned_steps`` is the number of steps to come."""

    def on_step(self, trainer: Trainer, step: int, loss: float) -> None:
        """Called after update number ``step`` (from 1, over all fits), whose batch had the loss ``loss``."""

    def on_progress(self, trainer: Trainer) -> None:
        """Called between two steps every few hundredths of a second; ``trainer.steps`` is the number of updates made.

        The call costs nearly nothing, whereas `on_step` returns from the native loop to Python after each update.
        """

    def on_evaluation(self, trainer: Trainer, record: Record) -> None:
        """Called after each evaluation; see `History` for the keys of the record."""

    def on_fit_end(self, trainer: Trainer) -> None:
        """Called when the run ends, also after an error or an interruption."""


def as_callbacks(callbacks: Any) -> list[Any]:
    """Return the argument ``callbacks`` (None, one callback, or several) as a list."""
    if callbacks is None:
        return []
    listens = any(hasattr(callbacks, event) for event in CallbackList._EVENTS)
    if listens or isinstance(callbacks, (str, bytes, type)) or not hasattr(callbacks, "__iter__"):
        return [callbacks]
    return list(callbacks)


class CallbackList:
    """Callbacks of one fit, by event.

    Parameters
    ----------
    callbacks
        See `as_callbacks`.
    leads : bool
        Whether this process calls all of them, not only those of every rank.

    Attributes
    ----------
    may_change_model, looks_at_model : bool
        Whether one of the callbacks may, see `Callback`.
    remembering : list
        Callbacks with a ``state_dict``, which is part of a saved training state; those of all ranks.

    Raises
    ------
    ValueError
        If an entry has none of the methods and is not callable.
    """

    _EVENTS = ("on_fit_begin", "on_step", "on_progress", "on_evaluation", "on_fit_end")

    def __init__(self, callbacks: Any, leads: bool = True) -> None:
        self._listeners: dict[str, list[Callable[..., None]]] = {event: [] for event in self._EVENTS}
        self.may_change_model = self.looks_at_model = False
        self.remembering: list[Any] = []
        self._leads, self._called = leads, set[int]()
        for callback in as_callbacks(callbacks):
            methods = {event: getattr(callback, event) for event in self._EVENTS if hasattr(callback, event)}
            if self.is_function(callback):
                methods = {"on_evaluation": callback}
            if not methods or isinstance(callback, type):
                raise ValueError(
                    f"callbacks holds {callback!r}; expected functions f(trainer, record), or objects with "
                    f"one of {', '.join(self._EVENTS)}."
                )
            if hasattr(callback, "state_dict") and hasattr(callback, "load_state_dict"):
                self.remembering.append(callback)
            if not (leads or getattr(callback, "every_rank", False)):
                continue
            self._called.add(id(callback))
            for event, method in methods.items():
                # Do not call methods that a subclass inherits unchanged.
                if getattr(method, "__func__", None) is not getattr(Callback, event):
                    self._listeners[event].append(method)
                    if event == "on_evaluation" and getattr(callback, "may_change_model", True):
                        self.may_change_model = True
                    if event == "on_step" or (event == "on_progress" and getattr(callback, "looks_at_model", True)):
                        self.looks_at_model = True

    @classmethod
    def is_function(cls, callback: Any) -> bool:
        """Whether a callback is called as ``f(trainer, record)``, as it has none of the methods."""
        return callable(callback) and not any(hasattr(callback, event) for event in cls._EVENTS)

    def listens(self, event: str) -> bool:
        """Whether one of the callbacks handles ``event``."""
        return bool(self._listeners[event])

    def __getattr__(self, event: str) -> Callable[..., None]:
        listeners = self.__dict__["_listeners"][event]

        def call(*arguments: Any) -> None:
            for listener in listeners:
                listener(*arguments)

        return call

    @property
    def resumed(self) -> list[Any]:
        """Callbacks with a ``state_dict`` that this process calls."""
        return [callback for callback in self.remembering if id(callback) in self._called]

    def state_dict(self) -> list[dict[str, Any]]:
        """Of each that remembers: ``type``, and what its ``state_dict`` gives, ``state`` and ``arrays``."""
        return [
            {"type": type(listener).__name__, "state": state, "arrays": arrays}
            for listener in self.remembering
            for state, arrays in (listener.state_dict(),)
        ]

    def load_state_dict(self, entries: list[dict[str, Any]], where: Any) -> None:
        """Give what `state_dict` gave, as it was read from ``where``.

        A rank other than 0 may lack the callbacks that it does not call.

        Raises
        ------
        ResumeError
            If it is that of callbacks of other types.
        """
        there, here = [entry["type"] for entry in entries], [type(one).__name__ for one in self.remembering]
        if there != here and not (self.resumed or self._leads):
            return
        if there != here:
            raise ResumeError(
                f"{where} cannot be resumed: it was saved with the callbacks {there}, here they are {here}."
            )
        for listener, entry in zip(self.remembering, entries, strict=True):
            if id(listener) in self._called:
                listener.load_state_dict(entry["state"], entry["arrays"])

    @contextlib.contextmanager
    def running(self, trainer: Trainer, *, resumed: bool = False) -> Iterator[None]:
        """Call on_fit_begin of all callbacks, and on_fit_end when the block ends, also by an exception.

        ``resumed``: skip on_fit_begin of the callbacks with a ``state_dict``, which have begun already.
        """
        with contextlib.ExitStack() as ends:
            for end in reversed(self._listeners["on_fit_end"]):
                ends.callback(end, trainer)
            for begin in self._listeners["on_fit_begin"]:
                if not (resumed and getattr(begin, "__self__", None) in self.remembering):
                    begin(trainer)
            yield
