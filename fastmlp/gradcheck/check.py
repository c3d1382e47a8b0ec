"""Gradient check: `backward` against central differences in float64.

With h = cbrt(eps) max(1, |theta|), the numerical derivative is n = (L(theta + h) - L(theta - h)) / 2h. It agrees with
the analytic derivative a if

    error = |a - n| / max(|a|, |n|, 1e-3 max|a|, floor / tolerance) <= tolerance, floor = 10 eps |L| / h,

with max|a| taken over the array. Rounding of L alone can cause a difference up to the floor.
"""

from __future__ import annotations

import contextlib
import copy
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from .._common.errors import GradientCheckError
from .._common.random import Rng, as_seed
from .._common.validation import Array, as_features, as_integer, as_number
from ..losses import Loss
from ..modules.activations import Activation
from ..modules.base import Module
from ..modules.dropout import Dropout
from .report import ArrayCheck, GradientReport

__all__ = ["check_gradients"]

_EPS = float(np.finfo(np.float64).eps)
_STEP = _EPS ** (1 / 3)
# Factors of the step that are tried in turn at a kink; a smaller step has a higher rounding floor.
_SHRINK = (1.0, 1 / 16, 1 / 256)


def check_gradients(
    model: Module | Loss,
    loss: Loss | None = None,
    x: Any = None,
    targets: Any = None,
    *,
    sample_weight: Any = None,
    tolerance: float = 1e-6,
    entries: int = 200,
    directions: int = 8,
    rng: Rng = 0,
    raise_on_failure: bool = True,
) -> GradientReport:
    """Compare the gradients of `backward` with central differences, for all parameters and the inputs.

    Parameters
    ----------
    model : Module or Loss
        A float32 model is checked as a float64 copy, since float32 rounding would hide errors. The training or
        evaluation mode is kept, and the Dropout masks are constant during the check.
    loss : Loss, optional
        The function to differentiate. None: sum(y * R) with a random R.
    x : array-like of shape (N, I)
        Inputs, preferably of size about 1.
    targets, sample_weight : array-like, optional
        See `Loss.forward`.
    tolerance : float
        Largest error accepted.
    entries : int
        Number of entries to check of each array; they are chosen at random if the array has more.
    directions : int
        Number of random directions in the space of all parameters and inputs to check in addition.
    rng : int, numpy.random.Generator or None
        Seed of R, of the chosen entries and of the directions.
    raise_on_failure : bool
        Whether to raise if a gradient disagrees.

    Returns
    -------
    GradientReport
        A difference across the kink of an activation (such as ReLU) or a loss (such as L1Loss) does not approximate
        the derivative. There the step is reduced, or the direction is drawn again; ``kinks`` counts these cases.
        ``unchecked`` counts the entries that lie on a kink; other entries replace them if the array has some.

    Raises
    ------
    GradientCheckError
        If a gradient disagrees; the message gives the array, the index, both values and the error.
    ValueError
        If the arguments do not fit each other.

    Examples
    --------
    >>> import fastmlp as fm, numpy as np
    >>> x = np.random.default_rng(0).normal(size=(4, 3))
    >>> fm.check_gradients(fm.MLP(3, [5], 2, activation="tanh", rng=0), fm.MSELoss(), x, np.zeros((4, 2))).passed
    True
    """
    if isinstance(model, Loss):
        if loss is not None:
            raise ValueError("check_gradients got two losses; expected a module and a loss, or one loss.")
        module, loss = None, model
    else:
        module = model
    tolerance = as_number(tolerance, "tolerance", 0, open_low=True)
    most, tries = as_integer(entries, "entries", 0), as_integer(directions, "directions", 0)
    if module is not None and module.dtype == np.float32:
        module = _in_float64(module)
    if loss is None and targets is not None:
        raise ValueError("check_gradients got targets but no loss; pass the loss as second argument.")
    generator = np.random.Generator(np.random.Philox(key=as_seed(rng)))
    x = np.array(as_features(x, None, np.dtype(np.float64), "check_gradients"), order="C")
    dropouts = [m for m in module.modules() if isinstance(m, Dropout)] if module is not None else []
    with contextlib.ExitStack() as stack:
        for dropout in dropouts:
            stack.enter_context(dropout.freeze())
        check = _Check(module, loss, x, targets, sample_weight, generator)
        report = GradientReport(tolerance)
        for name in check.variables:
            report.arrays.append(check.entries(name, most, tolerance))
        report.arrays.append(check.directions(tries, tolerance))
    if raise_on_failure and not report.passed:
        lines = [str(a) if a.checked else f"{a.name}: all entries on a kink" for a in report.failures]
        raise GradientCheckError("Gradients disagree with central differences:\n  " + "\n  ".join(lines))
    return report


def _in_float64(module: Module) -> Module:
    twin = copy.deepcopy(module)
    for inner in twin.modules():
        arrays = [
            {name: inner.backend.to_numpy(array).astype(np.float64) for name, array in group.items()}
            for group in (inner.params, inner.buffers)
        ]
        inner.dtype = None if inner.dtype is None else np.dtype(np.float64)
        inner.set_arrays(*arrays)
    return twin


class _Check:
    """Function L of named variables, with its analytic gradient and central differences."""

    def __init__(
        self,
        module: Module | None,
        loss: Loss | None,
        x: Array,
        targets: Any,
        weight: Any,
        generator: np.random.Generator,
    ) -> None:
        self.module, self.loss, self.generator = module, loss, generator
        self.targets, self.weight = targets, weight
        self.variables: dict[str, Array] = dict(module.named_parameters()) if module is not None else {}
        # No parameter is named "x": names end in weight or bias.
        self.variables["x"] = x
        outputs = x if module is None else module.forward(x)
        if loss is None:
            self.mix = generator.standard_normal(outputs.shape)
            self.size = float(np.abs(outputs * self.mix).sum())
            dy = self.mix
        else:
            self.target = loss.check_targets(targets, outputs)
            value, dy = loss.forward_backward(outputs, targets, weight)
            self.size = abs(value)
        dx = dy if module is None else module.backward(dy)
        self.gradients = {name: np.array(g) for name, g in module.named_gradients()} if module is not None else {}
        self.gradients["x"] = np.array(dx)
        # 0 for entries on a kink, which directions must leave unchanged.
        self.movable = {name: np.ones(array.shape) for name, array in self.variables.items()}

    def evaluate(self) -> tuple[Any, list[Array]]:
        """Return the loss (or the outputs, without one) and the side of each kink on which its arguments lie."""
        x = self.variables["x"]
        outputs = x if self.module is None else self.module.forward(x)
        sides = [
            np.sign(m.last_input - kink)
            for m in (self.module.modules() if self.module is not None else ())
            if isinstance(m, Activation) and m.has_kink and m.last_input is not None
            for kink in m.kinks
        ]
        if self.loss is None:
            return outputs, sides
        side = self.loss.kink_sides(outputs, self.target)
        sides += [] if side is None else [side]
        return self.loss.forward(outputs, self.targets, self.weight), sides

    def difference(self, move: Callable[[float], float], step: float) -> tuple[float, float, int]:
        """Return (derivative, rounding floor, kinks met); NaN if the smallest step meets a kink too.

        ``move(h)`` sets the variables to theta + h and returns the rounded h.
        """
        for kinks, shrink in enumerate(_SHRINK):
            try:
                h_up = move(step * shrink)
                above, sides_above = self.evaluate()
                h_down = move(-step * shrink)
                below, sides_below = self.evaluate()
            finally:
                move(0.0)
            if all(np.array_equal(a, b) for a, b in zip(sides_above, sides_below, strict=True)):
                change = above - below if self.loss is not None else float(((above - below) * self.mix).sum())
                return change / (h_up - h_down), 10 * _EPS * self.size / (step * shrink), kinks
        return math.nan, math.nan, len(_SHRINK)

    def entries(self, name: str, most: int, tolerance: float) -> ArrayCheck:
        """Check all entries of an array, or ``most`` random ones."""
        array, gradient = self.variables[name], self.gradients[name]
        flat = array.reshape(-1)
        result = ArrayCheck(name, flat.size if most else 0)
        order = np.arange(flat.size) if flat.size <= most else self.generator.permutation(flat.size)
        largest = float(np.abs(gradient).max(initial=0.0))
        # Entries on a kink do not count towards `most`.
        for place in order.tolist():
            if result.checked == most:
                break
            center = float(flat[place])

            def move(h: float, place: int = place, center: float = center) -> float:
                flat[place] = center + h
                return float(flat[place]) - center

            numerical, floor, kinks = self.difference(move, _STEP * max(1.0, abs(center)))
            result.kinks += kinks
            if kinks == len(_SHRINK):
                result.unchecked += 1
                self.movable[name].reshape(-1)[place] = 0.0
                continue
            index = tuple(int(i) for i in np.unravel_index(place, array.shape))
            analytic = float(gradient[index])
            scale = max(abs(analytic), abs(numerical), 1e-3 * largest, floor / tolerance)
            result.add(index, analytic, numerical, _error(analytic, numerical, scale))
        return result

    def directions(self, count: int, tolerance: float) -> ArrayCheck:
        """Check derivatives along random unit vectors in the space of all variables; redraw a vector across a kink."""
        result = ArrayCheck("directions", count)
        centers = {name: array.copy() for name, array in self.variables.items()}
        norm = math.sqrt(sum(float((g * g).sum()) for g in self.gradients.values()))
        step = _STEP * max(1.0, *(float(np.abs(c).max(initial=0.0)) for c in centers.values()))
        for _ in range(4 * count):
            if result.checked == count:
                break
            vectors = {name: self.generator.standard_normal(free.shape) * free for name, free in self.movable.items()}
            length = math.sqrt(sum(float((v * v).sum()) for v in vectors.values())) or 1.0

            def move(h: float, vectors: dict[str, Array] = vectors, length: float = length) -> float:
                for name, array in self.variables.items():
                    array[...] = centers[name] + h / length * vectors[name]
                return h

            numerical, floor, kinks = self.difference(move, step)
            result.kinks += kinks
            if kinks == len(_SHRINK):
                result.unchecked += 1
                continue
            analytic = sum(float((self.gradients[n] * v).sum()) for n, v in vectors.items()) / length
            scale = max(abs(analytic), abs(numerical), 1e-3 * norm, floor / tolerance)
            result.add((), analytic, numerical, _error(analytic, numerical, scale))
        return result


def _error(analytic: float, numerical: float, scale: float) -> float:
    return abs(analytic - numerical) / scale if scale else 0.0
