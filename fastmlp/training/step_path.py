"""StepPath: native path of single steps."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..losses import Loss
from ..modules import Module
from ..optim import Optimizer

if TYPE_CHECKING:
    from .._kernels.compiled.native import NativeStep
    from ..engine.session import Session

__all__ = ["StepPath"]


class StepPath:
    """Native path of steps, prepared after a step on the general path in Python.

    Parameters
    ----------
    check : bool
        Whether native code checks the values of its inputs.
    rows : int
        Expected number of rows of a batch.

    Attributes
    ----------
    native : NativeStep or None
        To be tried first; its methods return None if the general path must be taken.
    """

    def __init__(self, check: bool = True, rows: int = 1) -> None:
        self.check, self.rows = check, rows
        self.native: NativeStep | None = None
        # Shape of the outputs of the last forward pass through the modules, until its backward pass.
        self.pending: tuple[int, int] | None = None
        self._unwatched: Session | None = None  # a session whose settings cannot be watched

    def connect(self, session: Session, model: Module, loss: Loss, optimizer: Optimizer) -> None:
        """Prepare the native path for the following steps of a session."""
        prepared, native = getattr(session.engine, "prepared", None), self.native
        if prepared is None or session is self._unwatched:
            return
        if native is not None and native.prepared is prepared and native.version == prepared.version:
            if native.watch.unchanged():
                return
        from ..engine.prepared import native_step

        self.native = native_step(session, model, loss, optimizer, self.check)
        self._unwatched = session if self.native is None else None
