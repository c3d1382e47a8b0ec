"""The solver "lbfgs": SciPy's L-BFGS-B over all rows, with float64 gradients from the engine or the modules."""

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
from ..training.batches import TrainingData
from ..training.module_steps import ModuleSteps
from .network import Network

if TYPE_CHECKING:
    from ..engine.session import Session

__all__ = ["Objective", "minimize"]

_SMALL_WORK = 300_000  # rows times weights below which copying weights to the engine costs more than it gains
_BLAS_SHARES = 5000  # OpenBLAS sums fewer elements on one thread; limiting its threads takes 3 ms
_BLOCK = 1 << 16  # elements of the widest layer per block of rows, so that activations stay in the caches
_ROWS = 128  # least rows of a block, so that weights and gradients are read often enough per transfer to the caches
_DENSE = 1 << 28  # most bytes of a sparse matrix that is converted to dense rows for the engine


class Objective:
    """Loss over all rows and its gradient, as functions of the vector of all weights.

    Parameters
    ----------
    network : Network
        In float64.
    loss : Loss
    rows : TrainingData
    l2 : float
        See `Trainer`.
    scale, constant : float
        The reported loss is ``scale`` times the loss plus ``constant``; the gradient is that of the loss itself, see
        `BaseMLP._loss`.
    threads : int or None
        See `Trainer.fit`.

    Attributes
    ----------
    value : float
        Reported loss of the last call.
    """

    def __init__(
        self,
        network: Network,
        loss: Loss,
        rows: TrainingData,
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
        # Only the weights of Linear layers are penalized.
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
        if model.backend_name == "numba" and len(rows) * len(self.is_weight) > _SMALL_WORK:
            from ..engine.session import open_session  # may import Numba

            readable = _readable_in_place(rows)
            session = None if readable is None else open_session(model, loss, self.optimizer, threads, block)
            if readable is not None and session is not None:
                self.rows, self.steps = readable, session

    def close(self) -> None:
        """Return the arrays to the model and end the threads."""
        self.steps.close()

    def start(self) -> Array:
        """Return the present weights as a vector (P,)."""
        return self._flatten(array for _, array in self.network.model.named_parameters())

    def _flatten(self, arrays: Iterable[Array]) -> Array:
        move = self.network.model.backend.to_numpy
        return np.concatenate([move(array).ravel() for array in arrays])

    def set_weights(self, theta: Array) -> None:
        """Make these the weights."""
        self.steps.detach()
        for (_, array), start, stop in zip(
            self.network.model.named_parameters(), self.bounds, self.bounds[1:], strict=False
        ):
            copy_into(array, theta[start:stop].reshape(array.shape))

    def __call__(self, theta: Array) -> tuple[float, Array]:
        """Return the loss and its gradient (P,) at ``theta`` (P,)."""
        self.set_weights(theta)
        with np.errstate(over="ignore", invalid="ignore"):
            losses, _, made = self.steps.run(self.rows, self.index, self.ends, 0, 0, 0.0, None, self.blocks)
            weights = theta * self.is_weight
            penalty = 0.5 * self.decay * float(weights @ weights)
        self.steps.sync_to_user()
        self.value = value = float(losses[0]) * self.scale + self.constant + penalty
        if not len(made):  # the loss is not finite; a gradient of NaN makes SciPy stop
            return value, np.full(len(theta), np.nan)
        state = self.optimizer.state
        gradient = self._flatten(state[name]["gradient"] for name, _ in self.network.model.named_parameters())
        return value, gradient + self.decay * weights


def minimize(objective: Objective, *, max_iter: int, max_fun: int, tol: float, verbose: bool = False) -> Any:
    """Minimize the objective, leave the best weights in the network, and return SciPy's OptimizeResult.

    Parameters
    ----------
    objective : Objective
    max_iter, max_fun : int
        Most iterations, and most evaluations of the objective.
    tol : float
        Largest entry of the projected gradient at which the search ends.
    verbose : bool
        Whether to print a line for each iteration.
    """
    from scipy.optimize import minimize as scipy_minimize

    objective.network.model.train()
    start = objective.start()
    iterations = itertools.count(1)

    def report(theta: Array) -> None:
        print(f"Iteration {next(iterations)}, loss = {objective.value:.8f}")

    limited = _one_blas_thread() if len(start) > _BLAS_SHARES else contextlib.nullcontext()
    with limited, contextlib.closing(objective):
        found = scipy_minimize(
            objective,
            start,
            method="L-BFGS-B",
            jac=True,
            options={"maxfun": max_fun, "maxiter": max_iter, "gtol": tol},
            callback=report if verbose else None,
        )
    objective.set_weights(found.x)
    objective.network.refresh()
    objective.network.model.eval()
    return found


def _readable_in_place(rows: TrainingData) -> TrainingData | None:
    """Return the rows in a layout that the engine reads without a copy, or None if that would take too much memory."""
    from ..engine.runner import Engine

    if Engine.reads_in_place(rows.X):
        return rows
    if isinstance(rows.X, SparseRows) and math.prod(rows.X.shape) * rows.dtype.itemsize > _DENSE:
        return None
    kept = rows.X.dtype if rows.X.dtype in (np.uint8, np.float32) else rows.dtype
    return dataclasses.replace(rows, X=np.ascontiguousarray(rows.X[:], kept))


_limiting = threading.Lock()
_limits: list[Any] = []  # one entry per running fit; the first stores the limits from before


@contextlib.contextmanager
def _one_blas_thread() -> Iterator[None]:
    """Limit BLAS to one thread, since its idle threads would spin on the processors of the engine's threads.

    The limit applies to the whole process: with concurrent fits the first sets it and the last restores it.
    """
    from threadpoolctl import threadpool_limits  # a dependency of scikit-learn

    with deferred_interrupts(), _limiting:
        _limits.append(_limits[0] if _limits else threadpool_limits(1, "blas"))
    try:
        yield
    finally:
        with deferred_interrupts(), _limiting:
            limit = _limits.pop()
            if not _limits:
                limit.restore_original_limits()
