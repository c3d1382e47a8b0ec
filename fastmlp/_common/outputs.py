"""Conversion of model outputs to predictions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .validation import Array

__all__ = ["decode_outputs"]


def decode_outputs(outputs: Array, task: str, classes: Sequence[Any] | None) -> Array:
    """Convert model outputs to predictions (labels or values).

    Parameters
    ----------
    outputs : ndarray of shape (N, O)
        Logits, or the predicted values for regression.
    task : {"classification", "binary", "regression"}
    classes : sequence or None
        Labels by class index.

    Returns
    -------
    ndarray of shape (N,) or (N, O)
        Classification: the index of the largest output. Binary: 1 where an output is positive, else 0. Both as labels
        if ``classes`` is given. Regression: the outputs. One column is returned as (N,).

    Examples
    --------
    >>> decode_outputs(np.array([[0.2, 1.5], [2.0, -1.0]]), "classification", ["no", "yes"]).tolist()
    ['yes', 'no']
    """
    if task == "classification":
        answers: Array = outputs.argmax(axis=1)
    else:
        answers = outputs if task == "regression" else (outputs > 0).astype(np.int64)
        answers = answers[:, 0] if answers.shape[1] == 1 else answers
    return answers if task == "regression" or classes is None else np.asarray(classes)[answers]
