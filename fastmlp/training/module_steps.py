"""Training steps module by module, on any backend: the reference for the engine's steps."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .._common.group import tree_sum
from .._common.validation import Array
from ..losses import Loss
from ..modules import Dropout, Module
from ..optim import Optimizer
from .augmentation import Augmentations
from .batches import TrainingData
from .ranks import Ranks

__all__ = ["QUIET", "ModuleSteps"]

# The loss is checked after each step, so that NumPy's overflow warnings would add nothing.
QUIET: dict[str, Any] = {"over": "ignore", "invalid": "ignore", "divide": "ignore"}


class ModuleSteps:
    """Stepper that calls forward, loss, backward and update of the modules, batch by batch.

    Parameters
    ----------
    model : Module
    loss : Loss
    optimizer : Optimizer
    batch : int
        Rows that pass through the model at once.
    ranks : Ranks, optional
        Pieces of a batch, and the ranks that compute them.
    """

    def __init__(self, model: Module, loss: Loss, optimizer: Optimizer, batch: int, ranks: Ranks | None = None) -> None:
        self.model, self.loss, self.optimizer, self.batch, self.ranks = model, loss, optimizer, batch, ranks
        self._dropouts = [module for module in model.modules() if isinstance(module, Dropout)]

    def run(
        self,
        rows: TrainingData,
        index: Array,
        bounds: Array,
        seed: int | None,
        step: int,
        l2: float = 0.0,
        augment: Augmentations | None = None,
        accumulate: int = 1,
    ) -> tuple[Array, Array, Array]:
        """Make steps and return (losses, learning rates, penalties); stop at a loss that is not finite.

        See `Engine.run` for the arguments.
        """
        losses: list[float] = []
        rates: list[float] = []
        penalties: list[float] = []
        for start, stop in zip(bounds, bounds[1:], strict=False):
            rates.append(self.optimizer.current_lr)
            number = (step + len(penalties)) * accumulate
            losses.append(self._gradients(rows, index[start:stop], seed, number, augment))
            if not math.isfinite(losses[-1]):
                break
            weight = rows.labels(index[start:stop])[1]
            count = stop - start if weight is None else float(weight.sum())
            penalties.append(self._penalize(count, l2) if l2 else 0.0)
            self.optimizer.step(self.model)
        return np.array(losses), np.array(rates), np.array(penalties)

    def detach(self) -> None:
        """As a session's: the arrays are the user's all the time."""

    sync_to_user = close = detach

    def _gradients(
        self, rows: TrainingData, index: Array, seed: int | None, number: int, augment: Augmentations | None
    ) -> float:
        """Compute the gradient of the loss of some rows in the modules, and return the loss."""
        if self.ranks is not None:
            return self._over_ranks(self.ranks, rows, index, seed, number, augment)
        starts = range(0, len(index), self.batch)
        whole = None if len(starts) == 1 else self._denominator(rows, index, augment)
        loss = 0.0
        sums: dict[str, Array] = {}
        for place, start in enumerate(starts):
            x, y, weight = rows.take(index[start : start + self.batch])
            if augment is not None:
                assert seed is not None
                x, y, weight = augment.apply(x, y, weight, seed, number + place)
            for dropout in self._dropouts:
                dropout.set_position(seed, number + place)
            # Passed only with several batches, since user-defined losses may lack the argument.
            by_all = {} if whole is None else {"denominator": whole}
            part, gradient = self.loss.forward_backward(self.model.forward(x), y, weight, **by_all)
            loss += part
            if not math.isfinite(loss):
                return loss
            self.model.backward(gradient, need_dx=False)
            if whole is not None:
                self._add_gradients(sums)
        for name, gradient in self.model.named_gradients() if sums else ():
            self.model.backend.scale(sums[name], 1.0, gradient)
        return loss

    def _over_ranks(
        self, ranks: Ranks, rows: TrainingData, index: Array, seed: int | None, number: int,
        augment: Augmentations | None,
    ) -> float:  # fmt: skip
        """Compute `_gradients` as a binary tree over the pieces of each batch, and over the ranks."""
        whole = self._denominator(rows, index, augment)
        loss, total = 0.0, np.zeros(0)
        for place, start in enumerate(range(0, len(index), self.batch)):
            x, y, weight = rows.take(index[start : start + self.batch])
            if augment is not None:
                assert seed is not None
                x, y, weight = augment.apply(x, y, weight, seed, number + place)
            parts = [
                self._of_piece(x[a:b], y[a:b], None if weight is None else weight[a:b], a, seed, number + place, whole)
                for a, b in ranks.bounds(len(y))
            ]
            part, gradient = tree_sum([one for one, _ in parts]), tree_sum([one for _, one in parts])
            ranks.group.sum(gradient, part)
            loss += float(part[0])
            if not math.isfinite(loss):
                return loss
            total = gradient if place == 0 else total + gradient
        at = 0
        for _, array in self.model.named_gradients():
            array[...] = total[at : at + array.size].reshape(array.shape)
            at += array.size
        return loss

    def _of_piece(
        self, x: Array, y: Array, weight: Array | None, first: int, seed: int | None, number: int, whole: float
    ) -> tuple[Array, Array]:
        """Return the loss (1,) of some rows of a batch, from row ``first`` on, and its gradient (P,)."""
        loss = 0.0
        if len(y):
            for dropout in self._dropouts:
                dropout.set_position(seed, number)
                dropout.first_row = first
            try:
                loss, gradient = self.loss.forward_backward(self.model.forward(x), y, weight, denominator=whole)
                self.model.backward(gradient, need_dx=False)
            finally:
                for dropout in self._dropouts:
                    del dropout.first_row  # back to the class's 0
        size = self.gradient_size
        flat = np.zeros(size, self.model.dtype)
        if len(y):
            flat = np.concatenate([array.ravel() for _, array in self.model.named_gradients()] or [flat])
        return np.array([float(loss)]), flat

    @property
    def gradient_size(self) -> int:
        """Number of elements of all gradients."""
        return sum(array.size for _, array in self.model.named_parameters())

    def _add_gradients(self, sums: dict[str, Array]) -> None:
        backend = self.model.backend
        for name, gradient in self.model.named_gradients():
            if name not in sums:
                sums[name] = backend.zeros(gradient.shape, gradient.dtype)
            backend.add_scaled(gradient, 1.0, sums[name])

    def _denominator(self, rows: TrainingData, index: Array, augment: Augmentations | None) -> float:
        """Return the denominator of the loss over all these rows."""
        y, weight = rows.labels(index)
        if augment is not None and augment.mixup is not None and y.ndim == 1:
            y = np.broadcast_to(np.zeros((), rows.dtype), (len(index), rows.outputs))  # mixup makes rows of targets
        return self.loss.denominator(y, weight)

    def forward(self, X: Array, seed: int | None, step: int) -> Array:
        """Return the outputs of checked features in training mode, for `backward`."""
        for dropout in self._dropouts:
            dropout.set_position(seed, step)
        outputs: Array = self.model.backend.to_numpy(self.model.forward(X[:]))
        return outputs

    def backward(self, gradient: Array, l2: float) -> tuple[Array, Array, Array]:
        """Make a step from a gradient of the last `forward`'s outputs; the loss of the result is 0 or NaN."""
        rates = np.array([self.optimizer.current_lr])
        if not np.isfinite(gradient).all():
            return np.full(1, np.nan), rates, np.zeros(0)
        self.model.backward(gradient, need_dx=False)
        penalty = self._penalize(len(gradient), l2) if l2 else 0.0
        self.optimizer.step(self.model)
        return np.zeros(1), rates, np.full(1, penalty)

    def _penalize(self, count: float, l2: float) -> float:
        """Add the gradient of the L2 penalty to the gradients of the weights, and return the penalty."""
        squares, backend = 0.0, self.model.backend
        for module in self.model.modules():
            for name in module.penalized:
                backend.add_scaled(module.params[name], l2 / count, module.grads[name])
                squares += backend.sum_of_squares(module.params[name])
        return l2 / (2 * count) * squares
