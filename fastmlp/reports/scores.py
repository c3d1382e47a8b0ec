"""Scores of predictions by class and by confidence."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .._common.validation import Array

__all__ = ["ClassScores", "Reliability", "class_scores", "confusion_matrix", "reliability"]


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


class Reliability(NamedTuple):
    """Confidence and accuracy by bin of the confidence, and the expected calibration error."""

    confidence: Array
    accuracy: Array
    rows: Array
    error: float


def reliability(targets: Array, probabilities: Array, bins: int = 10) -> Reliability:
    """Compare the confidence in the predicted class with the accuracy, in bins of equal width.

    The expected calibration error is sum_b n_b / N |accuracy_b - confidence_b| (Guo et al., arXiv:1706.04599).

    Parameters
    ----------
    targets : ndarray of int, shape (N,)
    probabilities : ndarray of shape (N, C)
    bins : int
        Number of bins; those without rows are left out.
    """
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == targets
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    rows = np.bincount(place, minlength=bins)
    kept = rows > 0
    mean_confidence = np.bincount(place, confidence, bins)[kept] / rows[kept]
    accuracy = np.bincount(place, right, bins)[kept] / rows[kept]
    error = float((rows[kept] * np.abs(accuracy - mean_confidence)).sum() / len(targets))
    return Reliability(mean_confidence, accuracy, rows[kept], error)
