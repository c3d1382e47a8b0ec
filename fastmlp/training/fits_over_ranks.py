"""Fits over the ranks of a group: common decisions between native calls, and the state that rank 0 shares."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from ..losses import Loss
from ..modules import Module
from ..optim import Optimizer
from .rank_state import pack_state, require_cpu, unpack_state
from .ranks import together
from .resumable_fits import ResumableFits

if TYPE_CHECKING:
    from ..engine.session import Session
    from .fit import Fit

__all__ = ["FitsOverRanks"]


class FitsOverRanks(ResumableFits):
    """Base class of `Trainer` with what the ranks of a fit do together; see there for the parameters and attributes."""

    def __init__(self, model: Module, loss: Loss, optimizer: Optimizer, l2: float) -> None:
        super().__init__(model, loss, optimizer, l2)
        self.restored: int | None = None
        # Steps of the next native call, and whether callbacks changed the model of rank 0.
        self._chunk, self._is_changed = 1, False

    def _session_of(self, fit: Fit, threads: int | None) -> Session | None:
        """Return the session for the steps of a fit, None for steps module by module."""
        ranks, batch = fit.ranks, min(fit.size, fit.used)
        if ranks is not None:
            require_cpu(self.model)
        if ranks is not None and ranks.several and threads is None and self.model.backend_name == "numba":
            threads = ranks.threads(self.model, batch)
        session = self._open_session(threads, batch)
        if session is not None and not session.makes(fit.train, fit.accumulate):
            self._warn_slower("all rows of a step would have to be in memory at once")
            self._session = session = None
        if session is not None and ranks is None:
            session.cut(None)
        elif session is not None and ranks is not None:
            from ..engine.support import Pieces

            reducer = ranks.group.reducer(self.model.dtype)
            session.cut(Pieces(ranks.first, ranks.first + ranks.count, ranks.total, reducer))
        return session

    def _compare_ranks(self, fit: Fit) -> None:
        """Raise an exception on all ranks unless their fits are the same."""
        if fit.ranks is None or not fit.ranks.several:
            return
        with together(fit.group), fit.reads_of_passes():
            identity = fit.identity
        with together(fit.group):
            fit.require_equal_ranks(identity)

    @contextlib.contextmanager
    def _over_ranks(self, fit: Fit, running: AbstractContextManager[None]) -> Iterator[None]:
        """Context of the callbacks of a fit, those of ``running``, whose changes of the model reach all ranks."""
        if fit.ranks is None:
            with running:
                yield
            return
        with fit.ranks.entered(running):
            fit.agree_on_callbacks()
            with self._agreement(fit):
                pass  # on_fit_begin may have called `stop`
            self._share_state(fit)
            yield
        self._share_state(fit)

    @contextlib.contextmanager
    def _agreement(self, fit: Fit) -> Iterator[None]:
        """Context of steps or callbacks, after which all ranks go on, stop, or raise."""
        ranks, session = fit.ranks, self._session
        if ranks is None or not ranks.several:
            yield
            return
        error: BaseException | None = None
        try:
            yield
        except BaseException as raised:
            error = raised
        touched = chunk = 0
        if ranks.leads and error is None:
            touched = fit.listens("on_step") or (fit.looks_at_model and (session is None or not session.is_current))
            chunk = 1 if session is None else session.steps_at_once(fit.train, fit.size * fit.accumulate)
        found = ranks.agree(error, float(self._stopping), float(touched), float(chunk))
        self._stopping, self._is_changed, self._chunk = found[0] > 0, found[1] > 0, int(found[2])

    def _share_state(self, fit: Fit) -> None:
        """Give the weights, the optimizer's state and ``restored`` of rank 0 to all ranks."""
        ranks, session = fit.ranks, self._session
        if ranks is None or not ranks.several:
            return
        data = None
        with together(ranks.group):
            if ranks.leads:
                if session is not None:
                    session.detach()
                self.optimizer.prepare(self.model)
                data = pack_state(self.model, self.optimizer)
        told = {"restored": self.restored, "optimizer": self.optimizer.config()}
        told = ranks.group.share(json.loads(json.dumps(told)))
        data = ranks.group.share_bytes(data)
        with together(ranks.group):
            if not ranks.leads:
                if told["optimizer"] != json.loads(json.dumps(self.optimizer.config())):
                    raise ValueError(
                        "The optimizer's settings differ from those of rank 0; expected the same on all ranks. A "
                        "callback that changes them needs every_rank = True."
                    )
                if session is not None:
                    session.invalidate()
                unpack_state(data, self.model, self.optimizer)
                self.restored = told["restored"]
        self._is_changed = False
