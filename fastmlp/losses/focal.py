"""Focal losses: cross-entropy with less weight on well-classified examples."""

from __future__ import annotations

import numpy.typing as npt

from .._common.validation import Array, as_number
from .base import Loss
from .classwise import ClasswiseLoss
from .elementwise import ElementwiseLoss

__all__ = ["BinaryFocalLoss", "FocalLoss"]


class FocalLoss(ClasswiseLoss):
    """Focal loss l_i = - sum_j alpha_j t'_ij (1 - p_ij)^gamma log p_ij, with p = softmax(x) from logits x.

    Targets, label smoothing and reduction are those of `CrossEntropyLoss`, to which the loss reduces for gamma = 0 (Lin
    et al., arXiv:1708.02002). For binary targets see `BinaryFocalLoss`.

    Parameters
    ----------
    gamma : float
        At least 0; larger values reduce the weight of classes that the model predicts well.
    alpha : array-like of shape (C,), optional
        Weights of the classes, at least 0.
    label_smoothing : float
        From 0 to 1.

    Raises
    ------
    ValueError
        If an argument is invalid.

    Examples
    --------
    >>> import fastmlp as fm
    >>> loss, gradient = fm.FocalLoss(gamma=2).forward_backward([[2.0, 0.0, 0.0]], [0])
    >>> round(float(loss), 4)
    0.0109
    """

    kernel = "focal"
    number_names = ("label_smoothing", "gamma")
    weight_name = "alpha"
    alpha: Array | None

    @classmethod
    def examples(cls) -> list[Loss]:
        """Return a plain instance, and one with gamma below 1, class weights and label smoothing."""
        return [cls(), cls(0.5, [1.0, 2.0, 3.0, 4.0, 5.0], label_smoothing=0.1)]

    def __init__(self, gamma: float = 2.0, alpha: npt.ArrayLike | None = None, *, label_smoothing: float = 0.0) -> None:
        super().__init__(alpha, label_smoothing)
        self.gamma = as_number(gamma, "gamma", 0)


class BinaryFocalLoss(ElementwiseLoss):
    """Binary focal loss: the mean of A r^gamma c over all elements, from logits x and targets y from 0 to 1.

    c is the cross-entropy of `BCEWithLogitsLoss`, r = y (1 - p) + (1 - y) p with p = sigmoid(x), and
    A = alpha y + (1 - alpha) (1 - y), or 1 without alpha (Lin et al., arXiv:1708.02002). The loss is that of
    ``torchvision.ops.sigmoid_focal_loss``, whose alpha is 0.25 by default.

    Parameters
    ----------
    gamma : float
        At least 0; larger values reduce the weight of elements that the model predicts well.
    alpha : float, optional
        Weight of the positive targets, from 0 to 1; the weight of negative targets is 1 - alpha.
    reduction
        See `ElementwiseLoss`.

    Raises
    ------
    ValueError
        If an argument is invalid.

    Examples
    --------
    >>> import fastmlp as fm
    >>> loss, gradient = fm.BinaryFocalLoss(gamma=2, alpha=0.25).forward_backward([[0.0], [2.0]], [0, 1])
    >>> round(float(loss), 4)
    0.0652
    """

    kernel = "binary_focal"
    number_names = ("gamma", "alpha")
    target_kind = "unit"
    task = "binary"

    @classmethod
    def examples(cls) -> list[Loss]:
        """Return a plain instance, and one with gamma below 1 and alpha."""
        return [cls(), cls(0.5, 0.25)]

    def __init__(self, gamma: float = 2.0, alpha: float | None = None, *, reduction: str = "mean") -> None:
        super().__init__(reduction=reduction)
        self.gamma = as_number(gamma, "gamma", 0)
        self.alpha = None if alpha is None else as_number(alpha, "alpha", 0, 1)
