"""solver="lbfgs": all rows at once, by SciPy's L-BFGS-B, with gradients in float64 from the engine or the modules."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import math
import threading
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from .._common.arithmetic import ceil_div
from .._common.interrupts import deferred_interrupts
from .._common.validation import Array, SparseRows
from ..losses import Loss
from ..modules.arrays import copy_into
from ..optim.keep_gradient import KeepGradient
from ..training.batches import Rows
from ..training.module_steps import ModuleSteps
from .network import Network

if TYPE_CHECKING:
    from ..engine.session import Session

__all__ = ["Objective", "minimize"]

_FEW = 300_000  # rows times weights, up to which the modules take no longer than handing weights to the engine and back
_BLAS_SHARES = 5000  # OpenBLAS makes shorter sums on one thread; to find and limit it takes 3 ms
_BLOCK = 1 << 16  # elements of the widest layer in one block of rows: its activations stay in the caches
_ROWS = 128  # of a block at least: fewer would not be worth the weights' and the gradients' way through the caches
_DENSE = 1 << 28  # bytes that a sparse matrix may take as rows for the engine


class Objective:
    """The loss over all rows, and its gradient, as functions of all weights in one vector.

    Parameters
    ----------
    network : Network
        In float64.
    loss : Loss
    rows : Rows
    l2 : float
        See `Trainer`.
    scale, constant : float
        What the loss, but not its gradient, is multiplied by, and what is added to it: see `BaseMLP._loss`.
    threads : int or None
        See `Trainer.fit`.

    Attributes
    ----------
    value : float
        The loss of the last call: of the present iteration, when that has ended.
    """

    def __init__(
        self,
        network: Network,
        loss: Loss,
        rows: Rows,
        l2: float,
        scale: float,
        constant: float,
        threads: int | None = None,
    ) -> None:
        self.network, self.loss = network, loss
        self.scale, self.constant, self.value = scale, constant, math.nan
        model = network.model
        arrays = [array for _, array in model.named_parameters()]
        self.bounds = np.cumsum([0, *(array.size for array in arrays)])
        # The penalty is on the weights of the Linears alone.
        weights = {id(linear.params["weight"]) for linear in network.linears}
        self.is_weight = np.concatenate([np.full(array.size, id(array) in weights) for array in arrays])
        weight = rows.labels(slice(None))[1]
        self.count = float(len(rows)) if weight is None else float(weight.sum())
        self.decay = l2 / self.count
        widest = max(max(linear.in_features, linear.out_features) for linear in network.linears)
        block = min(len(rows), max(_ROWS, _BLOCK // widest))
        self.blocks = ceil_div(len(rows), block)
        self.index, self.ends = np.arange(len(rows)), np.array([0, len(rows)])
        self.optimizer = KeepGradient()
        self.steps: Session | ModuleSteps
        self.rows, self.steps = rows, ModuleSteps(model, loss, self.optimizer, block)
        if model.backend_name == "numba" and len(rows) * len(self.is_weight) > _FEW:
            from ..engine.session import open_session  # brings numba along

            readable = _in_place(rows)
            session = None if readable is None else open_session(model, loss, self.optimizer, threads, block)
            if readable is not None and session is not None:
                self.rows, self.steps = readable, session

    def close(self) -> None:
        """Give the arrays back and end the threads."""
        self.steps.close()

    def start(self) -> Array:
        """The weights as they are."""
        return self._joined(array for _, array in self.network.model.named_parameters())

    def _joined(self, arrays: Iterable[Array]) -> Array:
        move = self.network.model.backend.to_numpy
        return np.concatenate([move(array).ravel() for array in arrays])

    def put(self, theta: Array) -> None:
        """Make these the weights."""
        self.steps.detach()
        for (_, array), start, stop in zip(
            self.network.model.named_parameters(), self.bounds, self.bounds[1:], strict=False
        ):
            copy_into(array, theta[start:stop].reshape(array.shape))

    def __call__(self, theta: Array) -> tuple[float, Array]:
        """Loss and gradient (P,) at ``theta`` (P,)."""
        self.put(theta)
        with np.errstate(over="ignore", invalid="ignore"):
            losses, _, made = self.steps.run(self.rows, self.index, self.ends, 0, 0, 0.0, None, self.blocks)
            weights = theta * self.is_weight
            penalty = 0.5 * self.decay * float(weights @ weights)
        self.steps.sync_to_user()
        self.value = value = float(losses[0]) * self.scale + self.constant + penalty
        if not len(made):  # the loss is not finite, and SciPy ends the search
            return value, np.full(len(theta), np.nan)
        state = self.optimizer.state
        gradient = self._joined(state[name]["gradient"] for name, _ in self.network.model.named_parameters())
        return value, gradient + self.decay * weights


def minimize(objective: Objective, *, max_iter: int, max_fun: int, tol: float, verbose: bool = False) -> Any:
    """SciPy's result; the network has its weights. ``verbose``: a line for each iteration."""
    from scipy.optimize import minimize as scipy_minimize

    objective.network.model.train()
    start = objective.start()
    iterations = itertools.count(1)

    def tell(theta: Array) -> None:
        print(f"Iteration {next(iterations)}, loss = {objective.value:.8f}")

    limited = _one_blas_thread() if len(start) > _BLAS_SHARES else contextlib.nullcontext()
    with limited, contextlib.closing(objective):
        found = scipy_minimize(
            objective,
            start,
            method="L-BFGS-B",
            jac=True,
            options={"maxfun": max_fun, "maxiter": max_iter, "gtol": tol},
            callback=tell if verbose else None,
        )
    objective.put(found.x)
    objective.network.refresh()
    objective.network.model.eval()
    return found


def _in_place(rows: Rows) -> Rows | None:
    """The rows as the engine reads them where they are, copied once if need be; None if they would take too much."""
    from ..engine.runner import Engine

    if Engine.reads_in_place(rows.X):
        return rows
    if isinstance(rows.X, SparseRows) and math.prod(rows.X.shape) * rows.dtype.itemsize > _DENSE:
        return None
    kept = rows.X.dtype if rows.X.dtype in (np.uint8, np.float32) else rows.dtype
    return dataclasses.replace(rows, X=np.ascontiguousarray(rows.X[:], kept))


_limiting = threading.Lock()
_limits: list[Any] = []  # of fits under way; the first of them holds what BLAS had before


@contextlib.contextmanager
def _one_blas_thread() -> Iterator[None]:
    """Between SciPy's sums BLAS's threads would wait busily, on the processors that the engine's are to run on.

    The limit is the process's, so that of fits at the same time it is set by the first and lifted by the last.
    """
    from threadpoolctl import threadpool_limits  # scikit-learn needs it too

    with deferred_interrupts(), _limiting:
        _limits.append(_limits[0] if _limits else threadpool_limits(1, "blas"))
    try:
        yield
    finally:
        with deferred_interrupts(), _limiting:
            limit = _limits.pop()
            if not _limits:
                limit.restore_original_limits()
