"""solver="lbfgs": all rows at once, by SciPy's L-BFGS-B, with gradients in float64 from the engine or the modules."""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np

from ..batches import Rows
from ..losses import Loss
from ..module_steps import ModuleSteps
from ..optim import KeepGradient
from ..validation import Array
from .network import Network

__all__ = ["Objective", "minimize"]

_FEW = 300_000  # rows times weights, up to which the modules take no longer than handing weights to the engine and back
_BLAS_SHARES = 5000  # OpenBLAS makes shorter sums on one thread; to find and limit it takes 3 ms
_BLOCK = 1 << 16  # elements of the widest layer in one block of rows: its activations stay in the caches


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
        self.network, self.loss, self.rows = network, loss, rows
        self.scale, self.constant = scale, constant
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
        block = min(len(rows), max(1, _BLOCK // widest))
        self.blocks = -(-len(rows) // block)
        self.index, self.ends = np.arange(len(rows)), np.array([0, len(rows)])
        self.optimizer = KeepGradient()
        self.steps: Any = ModuleSteps(model, loss, self.optimizer, block)
        if model.backend_name == "numba" and len(rows) * len(self.is_weight) > _FEW:
            from ..engine.session import open_session  # brings numba along

            self.steps = open_session(model, loss, self.optimizer, threads, block) or self.steps

    def close(self) -> None:
        """Give the arrays back and end the threads."""
        if not isinstance(self.steps, ModuleSteps):
            self.steps.close()

    def start(self) -> Array:
        """The weights as they are."""
        return np.concatenate([array.ravel() for _, array in self.network.model.named_parameters()])

    def put(self, theta: Array) -> None:
        """Make these the weights."""
        if not isinstance(self.steps, ModuleSteps):
            self.steps.release()
        for (_, array), start, stop in zip(
            self.network.model.named_parameters(), self.bounds, self.bounds[1:], strict=False
        ):
            array[...] = theta[start:stop].reshape(array.shape)

    def __call__(self, theta: Array) -> tuple[float, Array]:
        """Loss and gradient (P,) at ``theta`` (P,)."""
        self.put(theta)
        with np.errstate(over="ignore", invalid="ignore"):
            losses, _, made = self.steps.run(self.rows, self.index, self.ends, 0, 0, 0.0, None, self.blocks)
            weights = theta * self.is_weight
            penalty = 0.5 * self.decay * float(weights @ weights)
        if not isinstance(self.steps, ModuleSteps):
            self.steps.give_back()
        value = float(losses[0]) * self.scale + self.constant + penalty
        if not len(made):  # the loss is not finite: L-BFGS takes a shorter step
            return value, np.full(len(theta), np.nan)
        state = self.optimizer.state
        gradient = np.concatenate(
            [state[name]["gradient"].ravel() for name, _ in self.network.model.named_parameters()]
        )
        return value, gradient + self.decay * weights


def minimize(objective: Objective, *, max_iter: int, max_fun: int, tol: float) -> Any:
    """SciPy's result; the network has its weights."""
    from scipy.optimize import minimize as scipy_minimize
    from threadpoolctl import threadpool_limits  # scikit-learn needs it too

    objective.network.model.train()
    start = objective.start()
    # Between SciPy's sums BLAS's threads would wait busily, on the processors that the engine's are to run on.
    limited = threadpool_limits(1, "blas") if len(start) > _BLAS_SHARES else contextlib.nullcontext()
    with limited, contextlib.closing(objective):
        found = scipy_minimize(
            objective,
            start,
            method="L-BFGS-B",
            jac=True,
            options={"maxfun": max_fun, "maxiter": max_iter, "gtol": tol},
        )
    objective.put(found.x)
    objective.network.model.eval()
    return found
