"""Cross-entropy from logits or probabilities."""

from __future__ import annotations

from typing import Any

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
from .base import Loss

__all__ = ["CrossEntropyLoss"]


class CrossEntropyLoss(Loss):
    """l_i = - sum_j w_j t'_ij log p_ij, with p = softmax(x) from logits x, or p = x.

    Targets are class indices (N,), t one-hot, or one-hot or soft rows t (N, C) of numbers of at least 0;
    t' = (1 - label_smoothing) t + label_smoothing / C. With indices the denominator is the sum of the
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
    kernel = "cross_entropy"
    target_kind = "labels"

    @classmethod
    def examples(cls) -> list[Loss]:
        """Plain, with smoothing and class weights, and from probabilities."""
        weights = [1.0, 2.0, 3.0, 4.0, 5.0]
        return [cls(), cls(label_smoothing=0.1, class_weight=weights), cls(from_logits=False)]

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

    def row_count(self, columns: int) -> float:
        """1: a row is one target."""
        return 1.0

    def target_weights(self, target: Array) -> Array | None:
        """The class weights of index targets."""
        return None if target.ndim == 2 or self.class_weight is None else self.class_weight[target]

    @property
    def takes_probabilities(self) -> bool:
        """Whether the loss is not from logits."""
        return not self.from_logits

    @property
    def may_ignore_rows(self) -> bool:
        """Whether a class has the weight 0."""
        return self.class_weight is not None and not self.class_weight.all()

    @property
    def numbers(self) -> tuple[float, float]:
        """The smoothing."""
        return self.label_smoothing, 0.0

    def column_weight(self, columns: int, dtype: np.dtype[Any]) -> Array | None:
        """The class weights."""
        return None if self.class_weight is None else as_float(self.class_weight, dtype, "class_weight")

    def _call(self, x: Array, target: Array, *rest: Any) -> None:
        backend = self.backend
        kernel = backend.cross_entropy if self.from_logits else backend.cross_entropy_probabilities
        weight = self.column_weight(x.shape[1], x.dtype)
        weight = None if weight is None else backend.from_numpy(weight)
        kernel(x, target, weight, self.label_smoothing, *rest)

    def config(self) -> dict[str, Any]:
        """Class weights, smoothing and kind of input."""
        return {
            "type": "CrossEntropyLoss",
            "class_weight": None if self.class_weight is None else self.class_weight.tolist(),
            "label_smoothing": self.label_smoothing,
            "from_logits": self.from_logits,
        }
