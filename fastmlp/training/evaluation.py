"""Outputs and metrics of a model over many rows, computed in blocks of bounded memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np

from .._common.sums import sum_in_blocks
from .._common.validation import Array
from ..losses import Loss
from ..modules import Module
from .batches import TrainingData
from .ranks import Ranks

__all__ = ["R2", "Accuracy", "evaluate_rows", "compute_outputs", "compute_probabilities", "normalize_outputs"]

_BLOCK = 1 << 21  # elements of the widest layer in one block
_MOST_ROWS = 1 << 13


class Accuracy:
    """Weighted share of correct predictions: of the largest output, or for binary tasks of the sign of each logit."""

    name = "accuracy"
    width = 2

    def __init__(self, binary: bool) -> None:
        self.binary = binary

    def of_block(self, outputs: Array, target: Array, weight: Array | None) -> list[float]:
        """Return the weights of the right rows and of all: outputs (N, C), target (N,) of indices or (N, C)."""
        if self.binary:
            right = ((outputs > 0) == (target >= 0.5)).mean(axis=1)
        else:
            expected = target if target.ndim == 1 else target.argmax(axis=1)
            right = outputs.argmax(axis=1) == expected
        found = right.sum() if weight is None else right @ weight
        return [float(found), float(len(right) if weight is None else weight.sum())]

    def value(self, sums: Array) -> float:
        """Return the accuracy, from 0 to 1, for the sums of the numbers of all blocks."""
        return float(sums[0] / sums[1])


class R2:
    """Coefficient of determination, averaged over outputs, as scikit-learn's ``r2_score``.

    For each output it is 1 - sum s (y - f)^2 / sum s (y - mean)^2, with weights s, targets y and outputs f.

    Parameters
    ----------
    target : ndarray of shape (N, O)
        Targets of all blocks, for their mean.
    weight : ndarray of shape (N,) or None
        Weights above 0.
    """

    name = "r2"

    def __init__(self, target: Array, weight: Array | None) -> None:
        if weight is None and target.shape[1] == 1:  # many rows: without a copy in float64
            total = sum_in_blocks(len(target), lambda part: target[part, 0].astype(np.float64))
            self._mean = np.array([total / len(target)])
        else:
            self._mean = np.average(target.astype(np.float64), axis=0, weights=weight)
        self._constant = (target == target[0]).all(axis=0)  # the rounded mean may differ from the constant
        self.width = 2 * target.shape[1]
        self._rows = len(target)

    def of_block(self, outputs: Array, target: Array, weight: Array | None) -> list[float]:
        """Return the residual and the spread of each output (N, O)."""
        scale = 1.0 if weight is None else weight[:, None]
        exact = target.astype(np.float64)
        residual, spread = scale * (outputs - exact) ** 2, scale * (exact - self._mean) ** 2
        return [*residual.sum(axis=0), *spread.sum(axis=0)]

    def value(self, sums: Array) -> float:
        """Return R2, at most 1, for the sums of the numbers of all blocks.

        It is NaN for fewer than two rows. A constant target counts as 1 if met exactly, else 0.
        """
        if self._rows < 2:
            return math.nan
        residual, spread = sums.reshape(2, -1)
        constant = self._constant | (spread == 0)
        ratio = residual / np.where(constant, 1.0, spread)
        return float(np.where(constant, residual == 0, 1 - ratio).mean())


def evaluate_rows(
    model: Module,
    loss: Loss,
    rows: TrainingData,
    batch_size: int | None = None,
    between: Callable[[], None] = lambda: None,
    infer: Callable[[Array], Array] | None = None,
    ranks: Ranks | None = None,
) -> dict[str, float]:
    """Compute the loss over all rows, and the accuracy or R2.

    Parameters
    ----------
    model : Module
    loss : Loss
    rows : TrainingData
    batch_size : int, optional
        Rows of a block. None chooses by the widest layer.
    between : callable
        Called without arguments after each block.
    infer : callable, optional
        Replacement for ``model.infer``.
    ranks : Ranks, optional
        Ranks that share the blocks. The result is that of one process.

    Returns
    -------
    dict
        ``loss``, and ``accuracy`` or ``r2``.
    """
    infer = infer or model.infer
    measure: Accuracy | R2
    if loss.task == "regression":
        measure = R2(*rows.labels(slice(None)))
    else:
        measure = Accuracy(loss.task == "binary")
    blocks = list(_blocks(model, len(rows), batch_size))

    def of_block(number: int) -> Array:
        x, y, weight = rows.take(blocks[number])
        there = infer(x)
        outputs = model.backend.to_numpy(there)
        share = loss.denominator(y, weight)
        # Compute the loss in the wider of the dtypes of targets and outputs, so that targets are not rounded.
        measured = outputs.astype(y.dtype) if y.dtype.kind == "f" and y.dtype != outputs.dtype else there
        # With label smoothing a block of weight 0 has a loss. The argument is passed only where it is needed, since
        # user-defined losses may lack it.
        value = loss.forward(measured, y, weight, **({} if share else {"denominator": 1.0})) * (share or 1.0)
        between()
        return np.array([value, share, *measure.of_block(outputs, y, weight)], np.float64)

    if ranks is not None and ranks.several:
        found = ranks.deal(len(blocks), 2 + measure.width, of_block)
    else:
        found = np.array([of_block(number) for number in range(len(blocks))])
    sums = np.cumsum(found, axis=0)[-1]  # in the order of the blocks
    return {"loss": float(sums[0] / sums[1]), measure.name: measure.value(sums[2:])}


def compute_outputs(model: Module, X: Array, infer: Callable[[Array], Array] | None = None) -> Array:
    """Compute the model's outputs (N, C) for validated features as a NumPy array; ``infer`` as in `evaluate_rows`."""
    if infer is not None:
        return infer(X)
    blocks = _blocks(model, len(X), None)
    parts = [model.backend.to_numpy(model.infer(X[block])) for block in blocks]
    return np.concatenate(parts) if parts else model.backend.to_numpy(model.infer(X[:0]))


def compute_probabilities(model: Module, loss: Loss, outputs: Array) -> Array:
    """Convert outputs (N, C) to probabilities by the softmax or the sigmoid, depending on the loss."""
    return outputs if loss.takes_probabilities else normalize_outputs(model, loss.task, outputs)


def normalize_outputs(model: Module, task: str, outputs: Array) -> Array:
    """Convert logits (N, C) to probabilities by the sigmoid for the task "binary", else by the softmax."""
    backend = model.backend
    x = backend.from_numpy(outputs)
    out = backend.empty(x.shape, x.dtype)
    if task == "binary":
        backend.activation_forward("sigmoid", 0.0, x, out)
    else:
        backend.softmax_forward(x, out)
    probabilities: Array = backend.to_numpy(out)
    return probabilities


def _blocks(model: Module, rows: int, size: int | None) -> Iterator[slice]:
    widths = [width or 1 for module in model.modules() for width in (module.in_width, module.out_width)]
    step = size or max(1, min(_BLOCK // max(widths), _MOST_ROWS))
    for start in range(0, rows, step):
        yield slice(start, start + step)
