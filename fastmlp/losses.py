"""Losses: ``forward(x, y, sample_weight) -> float``, ``backward(...) -> dx``, with PyTorch's mean reduction.

t is the target of an output x; `Loss` states what is the same for all of them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from .loss import Loss
from .validation import (
    Array,
    as_class_indices,
    as_distributions,
    as_elementwise_targets,
    as_float,
    as_number,
    as_real_array,
    as_vector,
)

__all__ = [
    "BCEWithLogitsLoss",
    "CrossEntropyLoss",
    "ElementwiseLoss",
    "HuberLoss",
    "L1Loss",
    "LogCoshLoss",
    "Loss",
    "MSELoss",
    "PoissonLoss",
    "QuantileLoss",
]


class CrossEntropyLoss(Loss):
    """l_i = - sum_j w_j t'_ij log p_ij, with p = softmax(x) from logits x, or p = x.

    Targets are class indices (N,), t one-hot, or one-hot or soft rows t (N, C) of numbers of at least 0;
    t' = (1 - label_smoothing) t + label_smoothing / C. With indices the normaliser is the sum of the
    targets' class weights (times sample weights), with rows it is N (or the sum of sample weights).
    A batch whose targets all have the class weight 0 has the loss 0 and no gradient: these classes are to be ignored,
    so that the batch says nothing (PyTorch's 0 / 0 is NaN there, and would end the training for good). Over a data set
    the loss is the weighted sum of all rows over the sum of their weights, whatever their order.
    Fused with the softmax, dl_i/dx_ij = p_ij sum_k w_k t'_ik - w_j t'_ij (docs/derivations.md).

    Parameters
    ----------
    class_weight : array-like of shape (C,), optional
        Weights w of the classes, at least 0.
    label_smoothing : float
        From 0 to 1 (Szegedy et al., arXiv:1512.00567).
    from_logits : bool
        False where x are the probabilities that `Softmax` gives.

    Raises
    ------
    ValueError
        If an argument is not as described.
    """

    task = "classification"

    def __init__(
        self,
        *,
        class_weight: npt.ArrayLike | None = None,
        label_smoothing: float = 0.0,
        from_logits: bool = True,
    ) -> None:
        super().__init__()
        self.class_weight = (
            None if class_weight is None else as_vector(class_weight, None, "class_weight", positive=True)
        )
        self.label_smoothing = as_number(label_smoothing, "label_smoothing", 0, 1)
        self.from_logits = bool(from_logits)

    def check_targets(self, y: Any, outputs: Array) -> Array:
        """int64 (N,) of indices, or rows (N, C) in the outputs' dtype; see `Loss.check_targets`."""
        where = type(self).__name__
        rows, classes = outputs.shape
        if self.class_weight is not None and len(self.class_weight) != classes:
            raise ValueError(f"class_weight has {len(self.class_weight)} entries; expected {classes}, one a class.")
        y = as_real_array(y, f"{where}: y")
        if y.ndim == 1:
            return as_class_indices(y, rows, classes, where)
        return as_distributions(y, (rows, classes), outputs.dtype, where)

    def _normaliser(self, target: Array, weights: Array | None) -> float:
        if target.ndim == 2 or self.class_weight is None:
            return len(target) if weights is None else float(weights.sum())
        of_rows = self.class_weight[target]
        return float((of_rows if weights is None else of_rows * weights).sum())

    def _call(self, x: Array, target: Array, *rest: Any) -> None:
        backend = self.backend
        kernel = backend.cross_entropy if self.from_logits else backend.cross_entropy_probabilities
        weight = self.class_weight
        if weight is not None:
            weight = backend.from_numpy(as_float(weight, x.dtype, "class_weight"))
        kernel(x, target, weight, self.label_smoothing, *rest)

    def config(self) -> dict[str, Any]:
        """Class weights, smoothing and kind of input."""
        return {
            "type": "CrossEntropyLoss",
            "class_weight": None if self.class_weight is None else self.class_weight.tolist(),
            "label_smoothing": self.label_smoothing,
            "from_logits": self.from_logits,
        }


class ElementwiseLoss(Loss):
    """Base of the losses that add up over single elements; targets of x's shape, or (N,) for outputs (N, 1).

    Parameters
    ----------
    reduction : {"mean", "rows"}
        "mean" is that over all elements; "rows" adds up the elements of each row, and takes the mean over the rows.

    Raises
    ------
    ValueError
        If it is another.
    """

    def __init__(self, *, reduction: str = "mean") -> None:
        super().__init__()
        if reduction not in ("mean", "rows"):
            raise ValueError(f"reduction is {reduction!r}; expected 'mean' or 'rows'.")
        self.reduction = reduction

    def row_count(self, columns: int) -> float:
        """All its elements, or 1 where they are added up."""
        return float(columns) if self.reduction == "mean" else 1.0

    def config(self) -> dict[str, Any]:
        """The reduction."""
        return {"type": type(self).__name__, "reduction": self.reduction}


class MSELoss(ElementwiseLoss):
    """The mean of (x - y)^2 over all elements; targets and ``reduction`` as for `ElementwiseLoss`.

    Parameters
    ----------
    half : bool
        Whether it is half of that, whose slope is x - y.
    """

    def __init__(self, *, reduction: str = "mean", half: bool = False) -> None:
        super().__init__(reduction=reduction)
        self.half = bool(half)

    def row_count(self, columns: int) -> float:
        """As `ElementwiseLoss`, twice that for the half."""
        return super().row_count(columns) * (2 if self.half else 1)

    def config(self) -> dict[str, Any]:
        """The reduction, and whether it is half."""
        return {**super().config(), "half": self.half}

    def _call(self, x: Array, target: Array, *rest: Any) -> None:
        self.backend.mse(x, target, *rest)


class L1Loss(ElementwiseLoss):
    """The mean of |x - y| over all elements, of slope 0 at 0; targets and ``reduction`` as for `ElementwiseLoss`."""

    def _call(self, x: Array, target: Array, *rest: Any) -> None:
        self.backend.l1(x, target, *rest)

    def kink_sides(self, x: Array, target: Array) -> Array:
        """The sign of x - y."""
        sides: Array = np.sign(x - target)
        return sides


class LogCoshLoss(ElementwiseLoss):
    """The mean of log cosh(x - y) over all elements; targets and ``reduction`` as for `ElementwiseLoss`."""

    def _call(self, x: Array, target: Array, *rest: Any) -> None:
        self.backend.log_cosh(x, target, *rest)


class PoissonLoss(ElementwiseLoss):
    """The mean of exp(x) - y x over all elements: x is the logarithm of the rate of a count y, at least 0.

    It is the negative logarithm of the likelihood less what does not depend on x, as PyTorch's PoissonNLLLoss.
    Targets and ``reduction`` are as for `ElementwiseLoss`.
    """

    def check_targets(self, y: Any, outputs: Array) -> Array:
        """Targets of at least 0, of the outputs' shape and dtype; see `Loss.check_targets`."""
        where = type(self).__name__
        y = as_real_array(y, f"{where}: y")
        return as_elementwise_targets(y, outputs.shape, outputs.dtype, where, 0.0, np.inf)

    def _call(self, x: Array, target: Array, *rest: Any) -> None:
        self.backend.poisson(x, target, *rest)


class QuantileLoss(ElementwiseLoss):
    """The mean of q d where d = y - x > 0, else (q - 1) d: least where a share q of the targets lies below x.

    Of slope 0 at d = 0 (Koenker and Bassett, 1978, doi:10.2307/1913643).

    Parameters
    ----------
    quantile : float
        Above 0 and below 1; 0.5 is half of `L1Loss`.
    reduction
        See `ElementwiseLoss`.

    Raises
    ------
    ValueError
        If an argument is not as described.
    """

    def __init__(self, quantile: float = 0.5, *, reduction: str = "mean") -> None:
        super().__init__(reduction=reduction)
        self.quantile = as_number(quantile, "quantile", 0, 1, open_low=True, open_high=True)

    def _call(self, x: Array, target: Array, *rest: Any) -> None:
        self.backend.quantile(x, target, self.quantile, *rest)

    def kink_sides(self, x: Array, target: Array) -> Array:
        """The sign of x - y."""
        sides: Array = np.sign(x - target)
        return sides

    def config(self) -> dict[str, Any]:
        """The quantile, and the reduction."""
        return {**super().config(), "quantile": self.quantile}


class HuberLoss(ElementwiseLoss):
    """The mean of d^2 / 2 where |d| <= delta, else delta (|d| - delta / 2), with d = x - y (Huber, 1964).

    Parameters
    ----------
    delta : float
        Above 0.
    reduction
        See `ElementwiseLoss`.

    Raises
    ------
    ValueError
        If an argument is not as described.
    """

    def __init__(self, delta: float = 1.0, *, reduction: str = "mean") -> None:
        super().__init__(reduction=reduction)
        self.delta = as_number(delta, "delta", 0, open_low=True)

    def _call(self, x: Array, target: Array, *rest: Any) -> None:
        self.backend.huber(x, target, self.delta, *rest)

    def kink_sides(self, x: Array, target: Array) -> Array:
        """The sign of |x - y| - delta, where the second derivative jumps."""
        sides: Array = np.sign(np.abs(x - target) - self.delta)
        return sides

    def config(self) -> dict[str, Any]:
        """Delta, and the reduction."""
        return {**super().config(), "delta": self.delta}


class BCEWithLogitsLoss(ElementwiseLoss):
    """The mean of p y softplus(-x) + (1 - y) softplus(x) over all elements: binary cross-entropy from logits.

    Targets y are of x's shape, or (N,) for outputs (N, 1), from 0 to 1.

    Parameters
    ----------
    pos_weight : float or array-like of shape (O,), optional
        Weight p of the positive targets of each column, at least 0.
    reduction
        See `ElementwiseLoss`.

    Raises
    ------
    ValueError
        If a weight is not as described.
    """

    task = "binary"

    def __init__(self, pos_weight: npt.ArrayLike | None = None, *, reduction: str = "mean") -> None:
        super().__init__(reduction=reduction)
        self.pos_weight: Array | None = None
        if pos_weight is not None:
            self.pos_weight = as_vector(
                np.atleast_1d(as_real_array(pos_weight, "pos_weight")), None, "pos_weight", positive=True
            )

    def check_targets(self, y: Any, outputs: Array) -> Array:
        """Targets from 0 to 1 of the outputs' shape and dtype; see `Loss.check_targets`."""
        where, columns = type(self).__name__, outputs.shape[1]
        if self.pos_weight is not None and len(self.pos_weight) not in (1, columns):
            raise ValueError(f"pos_weight has {len(self.pos_weight)} entries; expected 1 or {columns}.")
        y = as_real_array(y, f"{where}: y")
        return as_elementwise_targets(y, outputs.shape, outputs.dtype, where, 0.0, 1.0)

    def _call(self, x: Array, target: Array, *rest: Any) -> None:
        weight = None
        if self.pos_weight is not None:
            of_columns = np.broadcast_to(as_float(self.pos_weight, x.dtype, "pos_weight"), x.shape[1])
            weight = self.backend.from_numpy(np.array(of_columns))
        self.backend.bce_with_logits(x, target, weight, *rest)

    def config(self) -> dict[str, Any]:
        """Weights of the positive targets."""
        return {
            **super().config(),
            "pos_weight": None if self.pos_weight is None else self.pos_weight.tolist(),
        }
