"""Scores of predictions by class."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .._common.validation import Array

__all__ = ["ClassScores", "class_scores", "confusion_matrix"]


def confusion_matrix(targets: Array, labels: Array, classes: int) -> Array:
    """Return the numbers of rows by true class (rows) and predicted class (columns), shape (C, C).

    Parameters
    ----------
    targets, labels : ndarray of int, shape (N,)
        True and predicted classes.
    classes : int
        C.
    """
    counts: Array = np.bincount(targets * classes + labels, minlength=classes * classes).reshape(classes, classes)
    return counts


class ClassScores(NamedTuple):
    """Scores of one class; NaN where a denominator is 0."""

    precision: float
    recall: float
    f1: float
    rows: int


def class_scores(confusion: Array) -> list[ClassScores]:
    """Return precision, recall, F1 and number of rows of each class."""
    right = np.diag(confusion).astype(np.float64)
    predicted, true = confusion.sum(axis=0), confusion.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        precision, recall, f1 = right / predicted, right / true, 2 * right / (predicted + true)
    return [ClassScores(*found) for found in zip(precision.tolist(), recall.tolist(), f1.tolist(), true.tolist())]
