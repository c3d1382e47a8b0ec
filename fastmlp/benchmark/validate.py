"""Whether a contender computes what it should: its first steps beside the NumPy backend's in float64."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .._common.validation import Array
from .._kernels import use_backend
from .cases import Case, Data
from .contender import Contender

__all__ = ["TOLERANCE", "Reference", "disagreement", "reference"]

TOLERANCE = 1e-3  # of the root mean square of what the steps change, and of losses
# Of products in other precisions: of losses, and of what the steps change. Rounded factors, the rest in float64, move
# 95% of an array's entries by up to 0.15 (tf32) and 0.34 (bf16) of that with Adam, 0.004 and 0.03 with SGD.
TOLERANCES = dict.fromkeys(("float32", "bf16x6"), (TOLERANCE, TOLERANCE))
TOLERANCES |= {"tf32": (5e-3, 0.25), "bf16": (3e-2, 0.5)}
# Entries that have to agree. In float32 a ReLU's input that is 0 but for rounding switches a unit on or off,
# and Adam divides one rounding error by another: a few entries may be anything, another formula changes most.
SHARE = 0.95
# Among millions of inputs some are 0 but for rounding, and a gradient that is the mean of many rows is no larger than
# what a few of them make of it: then a contender may be some times as far off as the NumPy backend in float32.
TIMES = 4


@dataclass(frozen=True)
class Reference:
    """Losses of the first steps, weights before and after them, and those after them in float32, when asked for."""

    order: Array
    losses: list[float]
    before: list[Array]
    after: list[Array]
    single: Callable[[], list[Array]]


def reference(case: Case, data: Data, weights: list[Array], order: Array) -> Reference:
    """Make the steps by hand in float64."""
    losses, after = _steps(case, data, weights, order, np.float64)
    single = functools.cache(lambda: _steps(case, data, weights, order, np.float32)[1])
    return Reference(order, losses, weights, after, single)


def _steps(case: Case, data: Data, weights: list[Array], order: Array, dtype: Any) -> tuple[list[float], list[Array]]:
    """Losses and weights of steps by the NumPy backend."""
    with use_backend("numpy"):
        model, loss, optimizer = case.model(data, dtype), case.make_loss(), case.make_optimizer()
        names = [name for name, _ in model.named_parameters()]
        model.load_state_dict({**model.state_dict(), **dict(zip(names, weights, strict=True))})
        losses = []
        for rows in order:
            outputs = model.forward(data.X[rows])
            value, gradient = loss.forward_backward(outputs, loss.check_targets(data.y[rows], outputs), None)
            losses.append(float(value))
            model.backward(gradient, need_dx=False)
            optimizer.step(model)
    return losses, [np.array(array) for _, array in model.named_parameters()]


def disagreement(contender: Contender, expected: Reference, precision: str = "float32") -> str | None:
    """Let it make the steps; what is wrong with its losses or its weights, None where nothing is.

    ``precision`` is that of its products.

    Weights are compared by what the steps have changed of them: the weights themselves would agree with
    those of a contender that does nothing.
    """
    of_losses, of_changes = TOLERANCES[precision]
    for step, (loss, right) in enumerate(zip(contender.losses(expected.order), expected.losses, strict=True), 1):
        if not abs(loss - right) <= of_losses * abs(right):
            return f"the loss of step {step} is {loss:.6g}; expected {right:.6g}"
    arrays = zip(contender.weights(), expected.before, expected.after, strict=True)
    for number, (array, before, after) in enumerate(arrays):
        if array.shape != after.shape:
            return f"array {number} has shape {array.shape}; expected {after.shape}"
        change = float(np.sqrt(np.mean((after - before) ** 2)))
        # Each step also rounds the weight itself, by half an ulp.
        rounding = len(expected.order) * float(np.finfo(np.float32).eps) / 2 * float(np.abs(after).max())
        error = np.abs(array.astype(np.float64) - after)
        agree = float(np.mean(error <= of_changes * change + rounding))  # NaN does not
        if agree < SHARE:
            own = float(np.quantile(np.abs(expected.single()[number] - after), SHARE))
            agree = max(agree, float(np.mean(error <= TIMES * own)))
        if agree < SHARE:
            return (
                f"after {len(expected.order)} steps {agree:.0%} of array {number} agree; the steps change it by "
                f"{change:.1e}, and it is off by up to {float(error.max()):.1e}"
            )
    return None
