"""Check of a contender: its first steps are compared with the NumPy backend in float64."""

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

TOLERANCE = 1e-3  # relative to the loss, and to the root mean square of the change of the weights
# Tolerances of (losses, weight changes) by precision of the products. With rounded factors and all else in float64, 95%
# of the entries of an array move by up to 0.15 (tf32) and 0.34 (bf16) of the change with Adam, 0.004 and 0.03 with SGD.
TOLERANCES = dict.fromkeys(("float32", "bf16x6"), (TOLERANCE, TOLERANCE))
TOLERANCES |= {"tf32": (5e-3, 0.25), "bf16": (3e-2, 0.5)}
# Share of entries that must agree. In float32, a ReLU input that is 0 up to rounding errors switches a unit on or off,
# and Adam divides one rounding error by another: a few entries may differ, whereas a wrong formula changes most.
SHARE = 0.95
# Among millions of inputs some are 0 up to rounding errors, and a gradient averaged over many rows can be as small as
# the contribution of a few rows. The error may then be this multiple of the error of the NumPy backend in float32.
TIMES = 4


@dataclass(frozen=True)
class Reference:
    """Losses of the first steps, weights before and after them, and a function for the weights after float32 steps."""

    order: Array
    losses: list[float]
    before: list[Array]
    after: list[Array]
    single: Callable[[], list[Array]]


def reference(case: Case, data: Data, weights: list[Array], order: Array) -> Reference:
    """Run the steps with the NumPy backend in float64."""
    losses, after = _steps(case, data, weights, order, np.float64)
    single = functools.cache(lambda: _steps(case, data, weights, order, np.float32)[1])
    return Reference(order, losses, weights, after, single)


def _steps(case: Case, data: Data, weights: list[Array], order: Array, dtype: Any) -> tuple[list[float], list[Array]]:
    """Return the losses and the final weights of steps by the NumPy backend."""
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
    """Run the steps of a contender and compare its losses and weights with the reference.

    Errors of the weights are relative to their change: relative to the weights themselves, a contender that does
    nothing would pass.

    Parameters
    ----------
    contender : Contender
        A new contender.
    expected : Reference
        Losses and weights in float64.
    precision : str
        Precision of the contender's matrix products.

    Returns
    -------
    str or None
        The first difference, or None.
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
        # Each step also rounds the weight, by half an ulp.
        rounding = len(expected.order) * float(np.finfo(np.float32).eps) / 2 * float(np.abs(after).max())
        error = np.abs(array.astype(np.float64) - after)
        agree = float(np.mean(error <= of_changes * change + rounding))  # NaN does not
        if agree < SHARE:
            own = float(np.quantile(np.abs(expected.single()[number] - after), SHARE))
            agree = max(agree, float(np.mean(error <= TIMES * own)))
        if agree < SHARE:
            return (
                f"after {len(expected.order)} steps {agree:.0%} of array {number} agree; its change is {change:.1e}, "
                f"and its largest error {float(error.max()):.1e}"
            )
    return None
