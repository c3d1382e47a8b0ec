"""Calibration of probabilities: confidence beside accuracy, the expected calibration error, and temperature scaling."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from .._common.validation import Array, as_integer

__all__ = ["Reliability", "calibration_error", "fit_temperature", "reliability", "scale_by_temperature"]

_LOWEST, _HIGHEST = 1 / 8, 8.0  # temperatures
_SMALLEST = 1e-30  # probability whose logarithm is taken


class Reliability(NamedTuple):
    """Confidence and accuracy by bin of the confidence, numbers of rows, and the expected calibration error."""

    confidence: Array
    accuracy: Array
    rows: Array
    error: float


def reliability(targets: Array, probabilities: Array, bins: int = 15) -> Reliability:
    """Compare the confidence in the predicted class with the accuracy, in bins of equal width.

    Parameters
    ----------
    targets : ndarray of int, shape (N,)
        Class indices.
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


def calibration_error(
    y: npt.ArrayLike, probabilities: npt.ArrayLike, *, classes: npt.ArrayLike | None = None, n_bins: int = 15
) -> float:
    """Compute the expected calibration error of the most probable class.

    It is sum_b n_b / N |accuracy_b - confidence_b| over bins b of equal width of the confidence, the largest
    probability of a row (Naeini, Cooper and Hauskrecht, AAAI 2015; Guo et al., arXiv:1706.04599).

    Parameters
    ----------
    y : array-like of shape (N,)
        Labels.
    probabilities : array-like of shape (N, C), or (N,) of the second of two classes
        As `predict_proba` returns them, from 0 to 1.
    classes : array-like of shape (C,), optional
        Labels of the columns, such as the attribute ``classes_`` of an estimator. Default: 0 to C - 1.
    n_bins : int
        Number of bins.

    Returns
    -------
    float
        From 0, for probabilities that equal the shares of right predictions, to 1.

    Raises
    ------
    ValueError
        If the shapes do not fit, a probability is not from 0 to 1, or a label is not among the classes.

    Examples
    --------
    >>> import fastmlp as fm
    >>> round(fm.calibration_error([0, 1, 1, 0], [[0.9, 0.1], [0.1, 0.9], [0.9, 0.1], [0.9, 0.1]]), 3)
    0.15
    """
    found = np.asarray(probabilities, np.float64)
    if found.ndim == 1:
        found = np.stack([1 - found, found], axis=1)
    labels = np.asarray(y).reshape(-1)
    if found.ndim != 2 or len(found) != len(labels) or not len(labels):
        raise ValueError(
            f"y has {len(labels)} labels and probabilities the shape {np.shape(probabilities)}; expected a row of "
            "probabilities for each label, and one row at least."
        )
    if not ((found >= 0) & (found <= 1 + 1e-6)).all():
        raise ValueError("probabilities has numbers outside of 0 to 1; expected those of predict_proba.")
    names = np.arange(found.shape[1]) if classes is None else np.asarray(classes)
    if names.shape != (found.shape[1],):
        raise ValueError(
            f"classes has the shape {names.shape}; expected one label for each of {found.shape[1]} columns."
        )
    order = np.argsort(names)
    place = np.searchsorted(names, labels, sorter=order)
    indices = order[np.minimum(place, len(names) - 1)]
    if (names[indices] != labels).any():
        unknown = labels[names[indices] != labels][:1].tolist()[0]
        raise ValueError(f"y has the label {unknown!r}; expected one of classes, which are {names[:10].tolist()} here.")
    return reliability(indices, found, as_integer(n_bins, "n_bins")).error


def scale_by_temperature(probabilities: Array, temperature: float) -> Array:
    """Return softmax(log p / T) of each row p, for a temperature T (Guo et al., arXiv:1706.04599)."""
    if temperature == 1.0:
        return probabilities
    logs = np.log(np.maximum(probabilities, _SMALLEST)) / temperature
    powers = np.exp(logs - logs.max(axis=1, keepdims=True))
    scaled: Array = powers / powers.sum(axis=1, keepdims=True)
    return scaled


def fit_temperature(targets: Array, probabilities: Array, weight: Array | None = None) -> float:
    """Return the temperature of the least log-loss, from 1/8 to 8, by golden-section search of its logarithm.

    The log-loss is a convex function of 1 / T, so it has one minimum.

    Parameters
    ----------
    targets : ndarray of int, shape (N,)
    probabilities : ndarray of shape (N, C)
    weight : ndarray of shape (N,), optional
    """
    logs = np.log(np.maximum(probabilities, _SMALLEST))
    rows: Any = np.arange(len(targets))

    def loss(logarithm: float) -> float:
        scaled = logs * np.exp(-logarithm)
        shifted = scaled - scaled.max(axis=1, keepdims=True)
        found = np.log(np.exp(shifted).sum(axis=1)) - shifted[rows, targets]
        return float(np.average(found, weights=weight))

    low, high = np.log(_LOWEST), np.log(_HIGHEST)
    share = (5**0.5 - 1) / 2
    while high - low > 1e-4:
        first, second = high - share * (high - low), low + share * (high - low)
        if loss(first) <= loss(second):
            high = second
        else:
            low = first
    return float(np.exp((low + high) / 2))
