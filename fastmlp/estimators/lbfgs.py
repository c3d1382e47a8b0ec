"""The solver "lbfgs": SciPy's L-BFGS-B over all rows, with float64 gradients from the engine or the modules."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import math
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from .._common.arithmetic import ceil_div
from .._common.errors import RankError
from .._common.group import Group, tree_sum
from .._common.interrupts import deferred_interrupts, held_interrupts
from .._common.validation import Array, SparseRows
from ..losses import Loss
from ..modules.arrays import copy_into
from ..optim.keep_gradient import KeepGradient
from ..training.batches import TrainingData
from ..training.module_steps import ModuleSteps
from ..training.ranks import Ranks, default_pieces
from .network import Network

if TYPE_CHECKING:
    from ..engine.session import Session

__all__ = ["Objective", "minimize"]

_SMALL_WORK = 300_000  # rows times weights below which copying weights to the engine costs more than it gains
_BLAS_SHARES = 5000  # OpenBLAS sums fewer elements on one thread; limiting its threads takes 3 ms
_BLOCK = 1 << 16  # elements of the widest layer per block of rows, so that activations stay in the caches
_ROWS = 128  # least rows of a block, so that weights and gradients are read often enough per transfer to the caches
_PIECE_ROWS, _FEWEST_PIECES = 256, 16  # of the rows, over which a group adds as a binary tree
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
    group : Group, optional
        Ranks, each of which computes some pieces of the rows. Results do not depend on their number, a power of two,
        but their last bits differ from those without a group.

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
        group: Group | None = None,
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
        self.ranks = None
        if group is not None:
            pieces = max(_FEWEST_PIECES, default_pieces(len(rows), _PIECE_ROWS))
            self.ranks = Ranks(group, pieces, len(rows))
            self._ended = False
            self.check_interrupt: Callable[[], None] = lambda: None
        self.blocks = ceil_div(len(rows), block * (self.ranks.total if self.ranks else 1))
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
        with np.errstate(over="ignore", invalid="ignore"):
            loss, gradient = self._of_rows(theta, 0, len(self.rows)) if self.ranks is None else self._over_ranks(theta)
            weights = theta * self.is_weight
            penalty = 0.5 * self.decay * float(weights @ weights)
            self.value = value = loss * self.scale + self.constant + penalty
            return value, gradient + self.decay * weights

    def _of_rows(self, theta: Array, first: int, stop: int) -> tuple[float, Array]:
        """Return the mean loss of some rows, without the penalty, and its gradient."""
        self.set_weights(theta)
        index, ends = np.arange(first, stop), np.array([0, stop - first])
        losses, _, made = self.steps.run(self.rows, index, ends, 0, 0, 0.0, None, self.blocks)
        self.steps.sync_to_user()
        if not len(made):  # the loss is not finite; a gradient of NaN makes SciPy stop
            return float(losses[0]), np.full(len(theta), np.nan)
        state = self.optimizer.state
        gradient = self._flatten(state[name]["gradient"] for name, _ in self.network.model.named_parameters())
        return float(losses[0]), gradient

    # ------------------------------------------------------------------------------------------- ranks

    def _over_ranks(self, theta: Array) -> tuple[float, Array]:
        """Return the mean loss of all rows and its gradient as the sum over the pieces of all ranks."""
        ranks = self.ranks
        assert ranks is not None
        if ranks.leads:
            ranks.group.share_bytes(theta.tobytes())
        total = np.zeros(len(theta) + 1)
        error: BaseException | None = None
        try:
            self.check_interrupt()
            total = tree_sum([self._of_piece(theta, *bounds) for bounds in ranks.bounds(len(self.rows))])
        except (Exception, KeyboardInterrupt) as raised:
            error = raised
        failed = np.array([float(error is not None)])
        ranks.group.sum(total, failed)
        if failed[0]:
            self._ended = True
            raise error or RankError("Another rank failed.")
        total /= self.loss.denominator(*self.rows.labels(slice(None)))
        return float(total[-1]), total[:-1]

    def _of_piece(self, theta: Array, first: int, stop: int) -> Array:
        """Return the gradient of the sum of the losses of some rows, followed by that sum."""
        share = self.loss.denominator(*self.rows.labels(slice(first, stop))) if stop > first else 0.0
        if not share:  # no rows, or classes of weight 0
            return np.zeros(len(theta) + 1)
        loss, gradient = self._of_rows(theta, first, stop)
        return np.append(gradient, loss) * share

    def follow(self) -> None:
        """Compute pieces for rank 0 until it has called `release`."""
        assert self.ranks is not None
        while data := self.ranks.group.share_bytes(None):
            self(np.frombuffer(data))

    def release(self) -> None:
        """End `follow` on the other ranks."""
        if self.ranks is not None and not self._ended:
            self.ranks.group.share_bytes(b"")


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

    def search() -> Any:
        return scipy_minimize(
            objective,
            start,
            method="L-BFGS-B",
            jac=True,
            options={"maxfun": max_fun, "maxiter": max_iter, "gtol": tol},
            callback=report if verbose else None,
        )

    with limited, contextlib.closing(objective):
        found = search() if objective.ranks is None else _search_by_ranks(objective, objective.ranks, search)
    objective.set_weights(found.x)
    objective.network.refresh()
    objective.network.model.eval()
    return found


def _search_by_ranks(objective: Objective, ranks: Ranks, search: Callable[[], Any]) -> Any:
    """Search on rank 0, for which the other ranks compute; return on all of them what SciPy has found."""
    from scipy.optimize import OptimizeResult

    found, error = None, None
    with held_interrupts() as check:
        objective.check_interrupt = check
        try:
            if ranks.leads:
                try:
                    found = search()
                finally:
                    objective.release()
            else:
                objective.follow()
        except (Exception, KeyboardInterrupt) as raised:
            error = raised
        ranks.agree(error)
    names = ("nit", "nfev", "status", "success", "message", "fun")
    told = ranks.group.share(None if found is None else {name: found[name] for name in names})
    x = ranks.group.share_bytes(None if found is None else found.x.tobytes())
    return OptimizeResult(told, x=np.frombuffer(x).copy())


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
