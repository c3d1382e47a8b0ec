"""Steps of a trainer that the caller drives one by one."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from .._common.errors import DivergenceError, PerformanceWarning, warn_user
from .._common.interrupts import held_interrupts
from .._common.validation import Array, as_number
from ..losses import Loss
from ..modules import Module
from ..optim import Optimizer
from .evaluator import Evaluator
from .module_steps import QUIET, ModuleSteps

if TYPE_CHECKING:
    from .._kernels.compiled.native import NativeStep
    from ..engine.session import Session

__all__ = ["SingleSteps", "StepPath"]

_WITH_ENGINE = ("numba", "cuda")


class StepPath:
    """Native path of steps, prepared after a step on the general path in Python.

    Parameters
    ----------
    check : bool
        Whether native code checks the values of its inputs.

    Attributes
    ----------
    native : NativeStep or None
        To be tried first; its methods return None if the general path must be taken.
    """

    def __init__(self, check: bool = True) -> None:
        self.check = check
        self.native: NativeStep | None = None
        self._unwatched: Session | None = None  # a session whose settings cannot be watched

    def connect(self, session: Session, model: Module, loss: Loss, optimizer: Optimizer) -> None:
        """Prepare the native path for the following steps of a session."""
        prepared = getattr(session.engine, "prepared", None)
        if prepared is None or session is self._unwatched:
            return
        if self.native is not None and self.native.prepared is prepared and self.native.watch.unchanged():
            return
        from ..engine.prepared import native_step

        self.native = native_step(session, model, loss, optimizer, self.check)
        self._unwatched = session if self.native is None else None


class SingleSteps(Evaluator):
    """Base class of `Trainer` that makes steps on single batches; see there for the parameters and attributes."""

    def __init__(self, model: Module, loss: Loss, optimizer: Optimizer, l2: float) -> None:
        super().__init__(model, loss)
        if not isinstance(optimizer, Optimizer):
            raise ValueError(f"{type(self).__name__} expected an Optimizer, got {optimizer!r}.")
        self.optimizer = optimizer
        self.l2 = as_number(l2, "l2", 0)
        self.steps = 0
        self.seed: int | None = None
        self.last_lr = optimizer.current_lr
        # The engine's session, which makes many steps in one native call; None if the engine cannot make the steps.
        self._session: Session | None = None
        self._path = StepPath()
        self._refused: tuple[Any, ...] = ()
        self._slow_reasons: set[str] = set()

    def __getstate__(self) -> dict[str, Any]:
        if self._session is not None:
            self._session.detach()
        return {**self.__dict__, "_session": None, "_path": StepPath()}

    def _open_session(self, threads: int | None, batch: int, single: bool = False) -> Session | None:
        """Return the engine's session for batches of this size, or None if steps are made module by module.

        ``single``: for steps that are made one by one, see `Session.step`.
        """
        key = (self.model, self.loss, self.optimizer, threads, batch)
        if self._session is not None and (self._session.fits_steps if single else self._session.fits)(*key):
            return self._session
        if self._session is not None:
            self._session.close()
            self._session = self._path.native = None
        subject = (self.model, self.loss, self.optimizer, self.model.backend_name)
        if self.model.backend_name not in _WITH_ENGINE or self._refused == subject:
            return None
        from ..engine.session import open_session  # may import Numba
        from ..engine.support import Unsupported

        try:
            self._session = open_session(*key)
        except Unsupported as reason:
            self._warn_slower(str(reason))
        self._refused = () if self._session else subject
        return self._session

    def _warn_slower(self, reason: str) -> None:
        """Warn once for each reason why steps are made module by module."""
        if reason not in self._slow_reasons:
            self._slow_reasons.add(reason)
            warn_user(f"Training goes module by module, which is slower: {reason}.", PerformanceWarning)

    def _advance(
        self, run: Callable[..., tuple[Array, Array, Array]], arguments: tuple[Any, ...]
    ) -> tuple[Array, Array]:
        """Make steps by ``run``; return their losses and the penalties contained in them."""
        losses, rates, penalties = run(*arguments)
        self.last_lr = float(rates[len(losses) - 1])
        self.steps += len(penalties)
        if len(penalties) < len(losses):
            raise self._diverged(f"the loss of step {self.steps + 1} is {losses[-1]}")
        return losses + penalties, penalties

    def _diverged(self, what: str) -> DivergenceError:
        return DivergenceError(f"Training diverged: {what}, at learning rate {self.last_lr:g}.")

    def step(self, x: Any, y: Any, sample_weight: Any = None) -> float:
        """Make one update on one batch, for online and reinforcement learning.

        Parameters
        ----------
        x, y, sample_weight
            The batch, see `fit`.

        Returns
        -------
        float
            Loss of the batch before the update.

        Raises
        ------
        ValueError
            As `fit`.
        DivergenceError
            If the loss is not finite; the weights are unchanged.
        """
        native = self._path.native
        if native is not None and sample_weight is None:
            loss = native.step(self, x, y)
            if loss is not None:
                return loss
        return self._general_step(self._path, x, y, sample_weight)

    def _by_modules(self, batch: int) -> ModuleSteps:
        return ModuleSteps(self.model, self.loss, self.optimizer, batch)

    def _general_step(self, path: StepPath, x: Any, y: Any, sample_weight: Any) -> float:
        """Make a step with all checks in Python, and prepare the native path."""
        batch = self._check(x, y, sample_weight, "step")
        if not self.model.training:
            self.model.train()
        session = self._open_session(None, len(batch), single=True)
        arguments = (self.seed, self.steps, self.l2)
        if session is None:
            whole = np.arange(len(batch)), np.array([0, len(batch)])
            with np.errstate(**QUIET):
                return float(self._advance(self._by_modules(len(batch)).run, (batch, *whole, *arguments))[0][0])
        with held_interrupts():
            try:
                losses, _ = self._advance(session.step, (batch, *arguments))
            finally:
                session.share()
        path.connect(session, self.model, self.loss, self.optimizer)
        return float(losses[0])
