"""What a model's outputs say."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .validation import Array

__all__ = ["decode_outputs"]


def decode_outputs(outputs: Array, task: str, classes: Sequence[Any] | None) -> Array:
    """What outputs (N, O) say: class indices, 0 or 1, or labels where there are; for regression they themselves.

    A single column comes as (N,).
    """
    if task == "classification":
        answers: Array = outputs.argmax(axis=1)
    else:
        answers = outputs if task == "regression" else (outputs > 0).astype(np.int64)
        answers = answers[:, 0] if answers.shape[1] == 1 else answers
    return answers if task == "regression" or classes is None else np.asarray(classes)[answers]
