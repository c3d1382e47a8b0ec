"""solver="lbfgs": all rows at once, by SciPy's L-BFGS-B, with the modules' gradients in float64."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..batches import Rows
from ..losses import Loss
from ..validation import Array
from .network import Network

__all__ = ["minimize"]

_BLOCK = 1 << 21  # elements of the widest layer in one block of rows


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
    scale : float
        What the loss, but not its gradient, is multiplied by: see `BaseMLP._loss`.
    """

    def __init__(self, network: Network, loss: Loss, rows: Rows, l2: float, scale: float, constant: float) -> None:
        self.network, self.loss, self.rows = network, loss, rows
        self.scale, self.constant = scale, constant
        model = network.model
        arrays = [array for _, array in model.named_parameters()]
        self.bounds = np.cumsum([0, *(array.size for array in arrays)])
        # The penalty is on the weights of the Linears alone.
        weights = {id(linear.params["weight"]) for linear in network.linears}
        self.is_weight = np.concatenate([np.full(array.size, id(array) in weights) for array in arrays])
        self.count = float(len(rows)) if rows.weight is None else float(rows.weight.sum())
        self.decay = l2 / self.count
        widest = max(max(linear.in_features, linear.out_features) for linear in network.linears)
        self.block = max(1, _BLOCK // widest)

    def start(self) -> Array:
        """The weights as they are."""
        return np.concatenate([array.ravel() for _, array in self.network.model.named_parameters()])

    def put(self, theta: Array) -> None:
        """Make these the weights."""
        for (_, array), start, stop in zip(
            self.network.model.named_parameters(), self.bounds, self.bounds[1:], strict=False
        ):
            array[...] = theta[start:stop].reshape(array.shape)

    def __call__(self, theta: Array) -> tuple[float, Array]:
        """Loss and gradient (P,) at ``theta`` (P,)."""
        self.put(theta)
        model, rows = self.network.model, self.rows
        value, gradient = 0.0, np.zeros(len(theta))
        total = self.loss.normaliser(rows.y[slice(None) if rows.index is None else rows.index], None)
        if rows.weight is not None:
            total = self.loss.normaliser(rows.y, rows.weight)
        with np.errstate(over="ignore", invalid="ignore"):
            for begin in range(0, len(rows), self.block):
                x, y, weight = rows.take(slice(begin, begin + self.block))
                share = self.loss.normaliser(y, weight) / total
                outputs = model.forward(x)
                part, slope = self.loss.forward_backward(outputs, y, weight)
                model.backward(slope, need_dx=False)
                value += part * share
                gradient += share * np.concatenate([array.ravel() for _, array in model.named_gradients()])
            weights = theta * self.is_weight
            penalty = 0.5 * self.decay * float(weights @ weights)
        return value * self.scale + self.constant + penalty, gradient + self.decay * weights


def minimize(objective: Objective, *, max_iter: int, max_fun: int, tol: float) -> Any:
    """SciPy's result; the network has its weights."""
    from scipy.optimize import minimize as scipy_minimize

    objective.network.model.train()
    found = scipy_minimize(
        objective,
        objective.start(),
        method="L-BFGS-B",
        jac=True,
        options={"maxfun": max_fun, "maxiter": max_iter, "gtol": tol},
    )
    objective.put(found.x)
    objective.network.model.eval()
    return found
