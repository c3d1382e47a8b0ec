"""Context managers that postpone Ctrl-C to a point where all state is consistent."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

__all__ = ["deferred_interrupts", "held_interrupts"]


@contextlib.contextmanager
def held_interrupts() -> Iterator[Callable[[], None]]:
    """Postpone Ctrl-C inside the block to calls of the function that the context manager returns.

    That function raises KeyboardInterrupt if Ctrl-C was pressed before; the end of the block calls it too. An update
    is thus applied to all layers or to none. A second Ctrl-C raises at once. Outside the main thread, or with a signal
    handler other than Python's default, the block changes nothing.
    """
    noted = False

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal noted
        if noted:
            raise KeyboardInterrupt
        noted = True

    def check() -> None:
        nonlocal noted
        if noted:
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
