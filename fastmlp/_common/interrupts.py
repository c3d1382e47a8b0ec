"""Context managers that postpone Ctrl-C to a point where all state is consistent, and pass it on to other threads."""

from __future__ import annotations

import contextlib
import contextvars
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

__all__ = ["Interruption", "deferred_interrupts", "held_interrupts"]


class Interruption:
    """Request to end the work of several threads, to which the system sends no Ctrl-C.

    After `listen`, the checks of `held_interrupts` in that context raise KeyboardInterrupt once the request is made.
    An interruption of the context in which this one was created ends its threads too.

    Examples
    --------
    >>> interruption = Interruption()
    >>> interruption.request()
    >>> interruption.is_requested()
    True
    """

    def __init__(self) -> None:
        self._outer = _interruption.get()
        self._requested = False

    def listen(self) -> None:
        """Let the current context end by this interruption."""
        _interruption.set(self)

    def request(self) -> None:
        """End the work of all threads that listen."""
        self._requested = True

    def is_requested(self) -> bool:
        """Return whether the work is to end."""
        return self._requested or (self._outer is not None and self._outer.is_requested())


_interruption: contextvars.ContextVar[Interruption | None] = contextvars.ContextVar(
    "fastmlp_interruption", default=None
)


@contextlib.contextmanager
def held_interrupts() -> Iterator[Callable[[], None]]:
    """Postpone Ctrl-C inside the block to calls of the function that the context manager returns.

    That function raises KeyboardInterrupt if Ctrl-C was pressed before; the end of the block calls it too. An update
    is thus applied to all layers or to none. A second Ctrl-C raises at once. Outside the main thread, or with a signal
    handler other than Python's default, the block postpones nothing, and the function raises for an `Interruption` of
    the context alone.
    """
    noted = False
    others = _interruption.get()

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal noted
        if noted:
            raise KeyboardInterrupt
        noted = True

    def check() -> None:
        nonlocal noted
        if noted or (others is not None and others.is_requested()):
            noted = False
            raise KeyboardInterrupt

    default = (
        threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    )
    if default:
        signal.signal(signal.SIGINT, note)
    try:
        yield check
        check()
    finally:
        if default:
            signal.signal(signal.SIGINT, signal.default_int_handler)


@contextlib.contextmanager
def deferred_interrupts() -> Iterator[None]:
    """Postpone every Ctrl-C until the block has ended, for code that must not be interrupted.

    The current signal handler, such as that of `held_interrupts`, is called once at the end of the block.
    """
    noted: list[tuple[int, FrameType | None]] = []
    handler = signal.getsignal(signal.SIGINT) if threading.current_thread() is threading.main_thread() else None
    if not callable(handler):  # SIG_IGN, SIG_DFL, or a thread other than the main one
        yield
        return
    signal.signal(signal.SIGINT, lambda *arguments: noted.append(arguments))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
        if noted:
            handler(*noted[0])
