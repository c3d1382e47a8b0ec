"""Cross-entropy from logits or probabilities."""

from __future__ import annotations

from typing import Any

import numpy.typing as npt

from .._common.validation import Array
from .base import Loss, runs_kernel
from .classwise import ClasswiseLoss

__all__ = ["CrossEntropyLoss"]


class CrossEntropyLoss(ClasswiseLoss):
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

    kernel = "cross_entropy"
    class_weight: Array | None

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
        super().__init__(class_weight, label_smoothing)
        self.from_logits = bool(from_logits)

    @property
    def takes_probabilities(self) -> bool:
        """Whether the loss is not from logits."""
        return not self.from_logits

    @runs_kernel
    def _call(self, x: Array, target: Array, *rest: Any) -> None:
        backend = self.backend
        kernel = backend.cross_entropy if self.from_logits else backend.cross_entropy_probabilities
        weight = self.column_weight(x.shape[1], x.dtype)
        weight = None if weight is None else backend.from_numpy(weight)
        kernel(x, target, weight, self.label_smoothing, *rest)
