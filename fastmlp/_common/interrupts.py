"""Ctrl-C between steps instead of in the middle of one."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

__all__ = ["deferred_interrupts", "held_interrupts"]


@contextlib.contextmanager
def held_interrupts() -> Iterator[Callable[[], None]]:
    """Hold back Ctrl-C inside the block: it raises KeyboardInterrupt where the given function is called.

    So an update is applied to all layers or to none. A second Ctrl-C is not held back. Outside the main
    thread, or where the program handles the signal itself, nothing is changed.
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

    ours = (
        threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    )
    if ours:
        signal.signal(signal.SIGINT, note)
    try:
        yield check
        check()
    finally:
        if ours:
            signal.signal(signal.SIGINT, signal.default_int_handler)


@contextlib.contextmanager
def deferred_interrupts() -> Iterator[None]:
    """Hold back Ctrl-C, however often it comes, until the block has ended: for what must not be cut short.

    Whoever handles it, be it `held_interrupts` or the program, is told once, afterwards.
    """
    noted: list[tuple[int, FrameType | None]] = []
    handler = signal.getsignal(signal.SIGINT) if threading.current_thread() is threading.main_thread() else None
    if not callable(handler):  # SIG_IGN and SIG_DFL are not
        yield
        return
    signal.signal(signal.SIGINT, lambda *arguments: noted.append(arguments))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
        if noted:
            handler(*noted[0])
