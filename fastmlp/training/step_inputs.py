"""Conversion of a single step's inputs to arrays that native code reads.

The values are those that the general path computes with; inputs for which that is not sure are left to it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .._common.validation import Array

__all__ = ["as_step_inputs"]

_READ = (np.dtype(np.uint8), np.dtype(np.float32), np.dtype(np.float64))  # dtypes of features that kernels read
_INT64, _FLOAT64 = np.dtype(np.int64), np.dtype(np.float64)


def as_step_inputs(
    x: Any, y: Any, sample_weight: Any, dtype: np.dtype[Any], labels: bool
) -> tuple[Array, Array, Array | None] | None:
    """Return (x, y, sample_weight) as contiguous arrays of dtypes that native steps read, None if that is not possible.

    Parameters
    ----------
    x, y, sample_weight
        See `Trainer.step`.
    dtype : numpy.dtype
        The model's.
    labels : bool
        Whether one-dimensional targets are class indices.
    """
    features, targets = _as_array(x), _as_array(y)
    if features is None or targets is None:
        return None
    features = np.ascontiguousarray(features, features.dtype if features.dtype in _READ else dtype)
    if not (labels and targets.ndim == 1):
        targets = np.ascontiguousarray(targets, targets.dtype if targets.dtype in _READ[1:] else dtype)
    elif targets.dtype.kind in "iu":
        targets = np.ascontiguousarray(targets, _INT64)
    if sample_weight is None:
        return features, targets, None
    weights = _as_array(sample_weight)
    return None if weights is None else (features, targets, np.ascontiguousarray(weights, _FLOAT64))


def _as_array(values: Any) -> Array | None:
    """Return numbers in the machine's byte order, of at most 64 bits, as an array; None for other values."""
    if isinstance(values, (list, tuple)):
        try:
            values = np.asarray(values)
        except (ValueError, TypeError, OverflowError):  # the general path says what is wrong
            return None
    if type(values) is not np.ndarray or values.ndim == 0:
        return None
    return values if values.dtype.kind in "biuf" and values.dtype.itemsize <= 8 else None
