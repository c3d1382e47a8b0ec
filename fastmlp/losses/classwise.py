"""ClasswiseLoss: base class of the losses that sum over classes."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from .._common.validation import (
    Array,
    as_class_indices,
    as_distributions,
    as_float,
    as_number,
    as_real_array,
    as_vector,
)
from .base import Loss, runs_kernel

__all__ = ["ClasswiseLoss"]


class ClasswiseLoss(Loss):
    """Base class of the losses l_i = sum_j w_j t'_ij f(log p_ij) of logits x, with p = softmax(x).

    The formula ``kernel`` is f, a function of log p and of the attribute that is second in ``number_names``; the first
    one is the label smoothing. Targets are class indices (N,) with one-hot t, or one-hot or soft rows t (N, C) of
    numbers of at least 0; t' = (1 - label_smoothing) t + label_smoothing / C. The denominator of index targets is the
    sum of the targets' class weights (times sample weights). The denominator of row targets is N (or the sum of sample
    weights). The gradient is dl_i/dx_ij = w_j t'_ij f'(log p_ij) - p_ij sum_k w_k t'_ik f'(log p_ik)
    (docs/derivations.md).

    Parameters
    ----------
    class_weight : array-like of shape (C,), optional
        Weights w of the classes, at least 0. A subclass can rename the argument by ``weight_name``.
    label_smoothing : float
        From 0 to 1 (Szegedy et al., arXiv:1512.00567).

    Raises
    ------
    ValueError
        If an argument is invalid.
    """

    task = "classification"
    target_kind = "labels"
    number_names: ClassVar[tuple[str, ...]] = ("label_smoothing",)
    # Name of the argument and attribute of the class weights.
    weight_name: ClassVar[str] = "class_weight"

    def __init__(self, class_weight: npt.ArrayLike | None = None, label_smoothing: float = 0.0) -> None:
        super().__init__()
        name = self.weight_name
        weight = None if class_weight is None else as_vector(class_weight, None, name, positive=True)
        setattr(self, name, weight)
        self.label_smoothing = as_number(label_smoothing, "label_smoothing", 0, 1)

    @property
    def _weight(self) -> Array | None:
        weight: Array | None = getattr(self, self.weight_name)
        return weight

    def check_targets(self, y: Any, outputs: Array) -> Array:
        """Return indices, int64 (N,), or rows (N, C) in the outputs' dtype; see `Loss.check_targets`."""
        where = type(self).__name__
        rows, classes = outputs.shape
        if self._weight is not None and len(self._weight) != classes:
            raise ValueError(f"{self.weight_name} has {len(self._weight)} entries; expected {classes}, one a class.")
        y = as_real_array(y, f"{where}: y")
        if y.ndim == 1:
            return as_class_indices(y, rows, classes, where)
        return as_distributions(y, (rows, classes), outputs.dtype, where)

    def row_count(self, columns: int) -> float:
        """Return 1, since a row is one target."""
        return 1.0

    def target_weights(self, target: Array) -> Array | None:
        """Return the class weights of index targets."""
        return None if target.ndim == 2 or self._weight is None else self._weight[target]

    @property
    def weighs_targets(self) -> bool:
        """Whether the classes have weights."""
        return self._weight is not None

    @property
    def may_ignore_rows(self) -> bool:
        """Whether a class has weight 0."""
        return self._weight is not None and not self._weight.all()

    def column_weight(self, columns: int, dtype: np.dtype[Any]) -> Array | None:
        """Return the class weights."""
        return None if self._weight is None else as_float(self._weight, dtype, self.weight_name)

    @runs_kernel
    def _call(self, x: Array, target: Array, *rest: Any) -> None:
        weight = self.column_weight(x.shape[1], x.dtype)
        weight = None if weight is None else self.backend.from_numpy(weight)
        self.backend.classwise_loss(self.kernel, x, target, weight, self.numbers, *rest)
