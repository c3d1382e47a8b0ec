"""Cross-entropy from logits or probabilities."""

from __future__ import annotations

from typing import Any

import numpy.typing as npt

from .._common.validation import Array
from .base import Loss, runs_kernel
from .classwise import ClasswiseLoss

__all__ = ["CrossEntropyLoss"]


class CrossEntropyLoss(ClasswiseLoss):
    """Cross-entropy l_i = - sum_j w_j t'_ij log p_ij, with p = softmax(x) from logits x, or p = x.

    Targets are class indices (N,) with one-hot t, or one-hot or soft rows t (N, C) of numbers of at least 0;
    t' = (1 - label_smoothing) t + label_smoothing / C. The denominator of index targets is the sum of the targets'
    class weights (times sample weights). The denominator of row targets is N (or the sum of sample weights).

    A batch whose targets all have class weight 0 has loss 0 and gradient 0, since weight 0 marks classes to ignore.
    (PyTorch returns 0 / 0 = NaN, which makes all later parameters NaN.) The loss of a data set is the weighted sum over
    all rows divided by the sum of their weights, independent of the order of rows.

    The gradient is fused with the softmax: dl_i/dx_ij = p_ij sum_k w_k t'_ik - w_j t'_ij (docs/derivations.md).

    Parameters
    ----------
    class_weight : array-like of shape (C,), optional
        Weights w of the classes, at least 0.
    label_smoothing : float
        From 0 to 1 (Szegedy et al., arXiv:1512.00567).
    from_logits : bool
        Whether x are logits; False for the probabilities of `Softmax`.

    Raises
    ------
    ValueError
        If an argument is invalid.

    Examples
    --------
    >>> import fastmlp as fm
    >>> round(fm.CrossEntropyLoss()([[0.0, 0.0]], [1]), 4)
    0.6931
    """

    kernel = "cross_entropy"
    class_weight: Array | None

    @classmethod
    def examples(cls) -> list[Loss]:
        """Return instances that are plain, with label smoothing and class weights, and from probabilities."""
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
        """Whether the loss takes probabilities instead of logits."""
        return not self.from_logits

    @runs_kernel
    def _call(self, x: Array, target: Array, *rest: Any) -> None:
        backend = self.backend
        kernel = backend.cross_entropy if self.from_logits else backend.cross_entropy_probabilities
        weight = self.column_weight(x.shape[1], x.dtype)
        weight = None if weight is None else backend.from_numpy(weight)
        kernel(x, target, weight, self.label_smoothing, *rest)
