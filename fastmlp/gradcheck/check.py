"""check_gradients: `backward` against central differences, in float64.

With h = cbrt(eps) max(1, |theta|), the numerical derivative is n = (L(theta + h) - L(theta - h)) / 2h. It
agrees with the analytic a where

    error = |a - n| / max(|a|, |n|, 1e-3 max|a|, floor / tolerance) <= tolerance, floor = 10 eps |L| / h,

max|a| taken over the array. A difference within the floor is what rounding L alone makes of n.
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
# Across a kink smaller steps are tried, whose floor is higher.
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
    """Compare `backward` with central differences, for every parameter and for the inputs.

    Parameters
    ----------
    model : Module or Loss
        A float32 model is checked as a float64 copy of itself, since float32's own rounding would hide an
        error. The model's mode is left as it is; Dropout masks stand still during the check.
    loss : Loss, optional
        What is differentiated; without one it is sum(y * R) with a random R.
    x : array-like of shape (N, I)
        Inputs, best of order 1.
    targets, sample_weight : array-like, optional
        As the loss takes them.
    tolerance : float
        The largest error accepted.
    entries : int
        Arrays of at most this many entries are checked entry by entry, of larger ones that many at random.
    directions : int
        How many random directions through all parameters and the inputs at once are checked as well.
    rng : int, numpy.random.Generator or None
        Seed of R, the sample and the directions.
    raise_on_failure : bool
        Whether to raise where gradients disagree; otherwise the report says so.

    Returns
    -------
    GradientReport
        Where +-h straddles a kink of an activation or a loss, such as ReLU's at 0, a difference says nothing: the step
        is shrunk, a direction drawn anew, and both are counted in ``kinks``; entries right on a kink are counted in
        ``unchecked``, and others are drawn in their place where there are.

    Raises
    ------
    GradientCheckError
        Where a gradient disagrees: names the array, the index, both values and the error.
    ValueError
        If the arguments do not fit each other.
    """
    if isinstance(model, Loss):
        if loss is not None:
            raise ValueError("check_gradients expected a module beside the loss, got two losses.")
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
        inner._set_arrays(*arrays)
    return twin


class _Check:
    """The function L of some variables, its gradient, and differences of it."""

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
        # A parameter is never called "x": their names end in weight or bias.
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
        # 0 for the entries that lie on a kink: no direction may move them.
        self.movable = {name: np.ones(array.shape) for name, array in self.variables.items()}

    def evaluate(self) -> tuple[Any, list[Array]]:
        """The outputs or the loss, and on which side of each kink everything is."""
        x = self.variables["x"]
        outputs = x if self.module is None else self.module.forward(x)
        sides = [
            np.sign(m.backend.to_numpy(m._saved[0]) - kink)
            for m in (self.module.modules() if self.module is not None else ())
            if isinstance(m, Activation) and m.has_kink and m._saved is not None
            for kink in m.kinks
        ]
        if self.loss is None:
            return outputs, sides
        side = self.loss.kink_sides(outputs, self.target)
        sides += [] if side is None else [side]
        return self.loss.forward(outputs, self.targets, self.weight), sides

    def difference(self, move: Callable[[float], float], step: float) -> tuple[float, float, int]:
        """(derivative, its rounding floor, kinks met); NaN where even the smallest step meets one.

        ``move(h)`` sets the variables to theta + h and gives the h that came out of rounding.
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
        """Entry by entry: all, or ``most`` at random."""
        array, gradient = self.variables[name], self.gradients[name]
        flat = array.reshape(-1)
        result = ArrayCheck(name, flat.size if most else 0)
        order = np.arange(flat.size) if flat.size <= most else self.generator.permutation(flat.size)
        largest = float(np.abs(gradient).max(initial=0.0))
        # One after the other until enough are checked: those on a kink do not count.
        for place in order.tolist():
            if result.checked == most:
                break
            centre = float(flat[place])

            def move(h: float, place: int = place, centre: float = centre) -> float:
                flat[place] = centre + h
                return float(flat[place]) - centre

            numerical, floor, kinks = self.difference(move, _STEP * max(1.0, abs(centre)))
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
        """Along random unit vectors in the space of all variables; one across a kink is drawn anew."""
        result = ArrayCheck("directions", count)
        centres = {name: array.copy() for name, array in self.variables.items()}
        norm = math.sqrt(sum(float((g * g).sum()) for g in self.gradients.values()))
        step = _STEP * max(1.0, *(float(np.abs(c).max(initial=0.0)) for c in centres.values()))
        for _ in range(4 * count):
            if result.checked == count:
                break
            vectors = {name: self.generator.standard_normal(free.shape) * free for name, free in self.movable.items()}
            length = math.sqrt(sum(float((v * v).sum()) for v in vectors.values())) or 1.0

            def move(h: float, vectors: dict[str, Array] = vectors, length: float = length) -> float:
                for name, array in self.variables.items():
                    array[...] = centres[name] + h / length * vectors[name]
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
