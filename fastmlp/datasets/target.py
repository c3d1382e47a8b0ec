"""The target column of a table: classes or numbers."""

from __future__ import annotations

import numpy as np

from ..errors import DataError
from .columns import Column, ordered_texts
from .dataset import Task

__all__ = ["choose_task", "class_indices", "class_names", "regression_targets"]

# Integers are taken for class labels if they take at most this many values, and each at least ten rows
# on average (two values always pass).
_MOST_CLASSES = 20
_ROWS_PER_CLASS = 10


def choose_task(target: Column, task: str) -> Task:
    """Classification or regression, by the caller's word or by the column.

    Parameters
    ----------
    target : Column
    task : {"auto", "classification", "regression"}

    Returns
    -------
    {"classification", "regression"}

    Raises
    ------
    DataError
        If values are missing or infinite, or numbers are asked of text.
    """
    if task not in ("auto", "classification", "regression"):
        raise DataError(f"task is {task!r}; expected 'auto', 'classification' or 'regression'.")
    missing = int(target.missing().sum())
    if missing:
        raise DataError(
            f"{target.label} is the target and is missing in {missing} of {len(target.values)} rows; "
            "expected a value in every row."
        )
    if target.kind in ("bool", "text"):
        if task == "regression":
            raise DataError(
                f"{target.label} holds {target.values[0][:40]!r}; the target of regression must be numbers."
            )
        return "classification"
    if not np.isfinite(target.values).all():
        raise DataError(f"{target.label} is the target and holds an infinity; expected finite numbers.")
    if task != "auto":
        return "classification" if task == "classification" else "regression"
    distinct = len(np.unique(target.values))
    few = distinct <= _MOST_CLASSES and distinct <= max(2, len(target.values) // _ROWS_PER_CLASS)
    return "classification" if target.kind == "integer" and few else "regression"


def class_names(target: Column) -> tuple[str, ...]:
    """The distinct labels, numbers by value and texts by code points; at least two."""
    classes = tuple(ordered_texts([text for text in target.texts() if text is not None]))
    if len(classes) < 2:
        raise DataError(f"{target.label} has one class only, {', '.join(classes)}; expected at least two.")
    return classes


def class_indices(target: Column, classes: tuple[str, ...]) -> np.ndarray:
    """Indices into `classes`, int64 (rows,); a label that is not among them is an error."""
    index = {label: place for place, label in enumerate(classes)}
    texts = target.texts()
    unknown = [text for text in texts if text not in index]
    if unknown:
        raise DataError(
            f"{target.label} has the label {unknown[0]}, expected one of the {len(classes)} classes of the "
            "training part."
        )
    return np.fromiter((index[text] for text in texts if text is not None), np.int64, len(texts))


def regression_targets(target: Column, *, constant: bool = False) -> np.ndarray:
    """The numbers as float32 (float64 if the source is float64), shape (rows,)."""
    if not constant and (target.values == target.values[0]).all():
        raise DataError(f"{target.label} is the target and is {target.values[0]:g} in every row.")
    dtype = np.float64 if target.wide else np.float32
    if np.abs(target.values).max() > np.finfo(dtype).max:
        raise DataError(f"{target.label} holds a number too large for float32.")
    return target.values.astype(dtype)
