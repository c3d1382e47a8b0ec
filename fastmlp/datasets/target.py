"""Target column of a table: class labels or numbers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .._common.errors import DataError
from ..io.scratch import Empty
from .categories import find_categories
from .columns import BLOCK, Column, distinct_labels, distinct_texts, distinct_values
from .dataset import Task

__all__ = ["check_target", "choose_task", "class_indices", "class_names", "regression_targets", "require_variation"]

# Integers are class labels if they have at most this many distinct values, with at least ten rows each on average (two
# values always qualify).
_MOST_CLASSES = 20
_ROWS_PER_CLASS = 10


def choose_task(target: Column, task: str) -> Task:
    """Choose between classification and regression, by the caller's choice or by the column.

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
        As `check_target`.
    """
    if task not in ("auto", "classification", "regression"):
        raise DataError(f"task is {task!r}; expected 'auto', 'classification' or 'regression'.")
    check_target(target, regression=task == "regression")
    if task != "auto":
        return "classification" if task == "classification" else "regression"
    if target.kind in ("bool", "text"):
        return "classification"
    if target.kind != "integer":
        return "regression"
    distinct = len(distinct_values(target))
    few = distinct <= _MOST_CLASSES and distinct <= max(2, len(target) // _ROWS_PER_CLASS)
    return "classification" if few else "regression"


def check_target(target: Column, *, regression: bool) -> None:
    """Check that training and evaluation can use a target.

    Raises
    ------
    DataError
        If values are missing or infinite, or are texts for regression.
    """
    missing = sum(int(block.missing().sum()) for block in target.blocks())
    if missing:
        raise DataError(
            f"{target.label} is the target and is missing in {missing} of {len(target)} rows; "
            "expected a value in every row."
        )
    if target.kind in ("bool", "text"):
        if regression:
            raise DataError(
                f"{target.label} holds {target.values[0][:40]!r}; the target of regression must be numbers."
            )
    elif not all(np.isfinite(block.numbers()).all() for block in target.blocks()):
        raise DataError(f"{target.label} is the target and holds an infinity; expected finite numbers.")


def class_names(target: Column) -> tuple[str, ...]:
    """Return the distinct labels, numbers sorted by value and texts by code points."""
    return tuple(distinct_labels(target))


def class_indices(target: Column, classes: Sequence[str], empty: Empty | None = None) -> np.ndarray:
    """Return indices into `classes`, int64 (rows,); raise DataError for a label that is not in it.

    With ``empty`` the array is made by it, in the smallest signed dtype that has all indices.
    """
    texts, rows = distinct_texts(target, empty or np.empty)
    of_texts = find_categories(texts, classes)
    places = (empty or np.empty)(len(rows), np.int64 if empty is None else np.min_scalar_type(-len(classes) - 1))
    for start in range(0, len(rows), BLOCK):
        places[start : start + BLOCK] = of_texts[rows[start : start + BLOCK]]
    if len(places) and places.min() < 0:
        odd = np.flatnonzero(places < 0)
        shown = ", ".join(repr(label) for label in classes[:20]) + (", ..." if len(classes) > 20 else "")
        raise DataError(
            f"{target.label} has the label {texts[rows[odd[0]]]!r}, which is none of the {len(classes)} classes of "
            f"training (so in {len(odd)} of {len(rows)} rows); expected {shown}."
        )
    return places


def require_variation(target: Column, classes: Sequence[str] | None) -> None:
    """Check that a target has more than one value, as training needs.

    Raises
    ------
    DataError
        If there is only one class, or the same number in all rows.
    """
    if classes is not None:
        if len(classes) < 2:
            raise DataError(f"{target.label} has one class only, {', '.join(classes)}; expected at least two.")
    elif all((block.values == target.values[0]).all() for block in target.blocks()):
        raise DataError(f"{target.label} is the target and is {target.values[0]!s} in every row of the training part.")


def regression_targets(target: Column, offset: float = 0, empty: Empty = np.empty) -> np.ndarray:
    """Return the numbers minus an offset, shape (rows,): float64, or float32 if the source has no more precision.

    ``empty`` makes the array.
    """
    y, done = empty(len(target), np.float32 if target.narrow and not offset else np.float64), 0
    for block in target.blocks():
        y[done : done + len(block)] = block.numbers(offset)
        done += len(block)
    return y
