"""Statistics of the training part of a table: medians, offsets, categories."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np

from .._common.errors import DataError
from .columns import Column, Table, ordered_texts
from .dialect import non_numeric

__all__ = ["check_finite", "fit_columns", "centering_offset"]

# A column with more categories is an identifier or free text; its one-hot encoding would fill the memory.
_MOST_CATEGORIES = 1000
# Largest rounding error of a value relative to the spread of its column.
_ROUNDING = 1e-3


def fit_columns(
    table: Table, names: list[str], categorical: Collection[str], dtype: np.dtype[Any], *, center: bool = True
) -> list[dict[str, Any]]:
    """Compute medians, offsets and categories of the training part.

    Parameters
    ----------
    table : Table
        Training part.
    names : list of str
        Feature columns, in order.
    categorical : collection of str
        Numeric columns to encode as one-hot, in addition to columns of texts and booleans.
    dtype : dtype
        Dtype of the features, which determines the columns that need an offset.
    center : bool
        Whether columns may have an offset. Pixels of an image must not be shifted against each other.

    Returns
    -------
    list of dict
        A JSON-able record for each column.

    Raises
    ------
    DataError
        If a column has no values, too many categories, an infinity, or a number too large for ``dtype``.
    """
    specs: list[dict[str, Any]] = []
    for name in names:
        column = table.column(name)
        missing = column.missing()
        if missing.all():
            raise DataError(f"{column.label} has no value in the training part; fill it, or leave it out with drop=.")
        if column.kind in ("number", "integer") and name not in categorical:
            specs.append({"name": name, "kind": "numeric", **_numeric(column, missing, dtype, center)})
            continue
        categories = ordered_texts([text for text in column.texts() if text is not None])
        if len(categories) > _MOST_CATEGORIES:
            odd = non_numeric(categories)
            if odd:
                raise DataError(
                    f"{column.label} has values that are not numbers, such as {odd[0][:40]!r}; expected numbers only."
                )
            raise DataError(
                f"{column.label} has {len(categories)} categories; expected at most {_MOST_CATEGORIES}, or leave it "
                "out with drop=."
            )
        specs.append(
            {
                "name": name,
                "kind": "categorical",
                "categories": categories,
                "missing": bool(missing.any()),
                "text": column.kind == "text",
            }
        )
    return specs


def _numeric(column: Column, missing: np.ndarray, dtype: np.dtype[Any], center: bool) -> dict[str, Any]:
    check_finite(column)
    values = column.numbers()[~missing]
    largest = float(values[np.abs(values).argmax()])
    if abs(largest) > float(np.finfo(dtype).max):
        more = ", or read the table with dtype='float64'" if dtype == np.float32 else ""
        raise DataError(f"{column.label} holds {largest:g}, too large for {dtype}; scale the column{more}.")
    quartiles = np.percentile(values, (25, 50, 75))
    # `whole`: dtype represents all values exactly. (Integers beyond 2^53 are rounded in `values` already.)
    whole = abs(largest) < 2**53 and np.array_equal(values, values.astype(dtype))
    return {
        "median": float(quartiles[1]),
        "offset": _offset(column, missing, quartiles, dtype) if center and not whole else 0,
        "missing": bool(missing.any()),
        "binary": largest in (0, 1) and bool(np.isin(values, (0, 1)).all()),
    }


def centering_offset(column: Column, dtype: np.dtype[Any]) -> float:
    """Return the offset to subtract from a numeric column before it is rounded to ``dtype``.

    For example, times in seconds near 1.7e9 that differ by 100 are equal in float32. Minus their median they differ.

    Parameters
    ----------
    column : Column
        Finite numbers or integers, at least one.
    dtype : dtype
        float32 or float64.

    Returns
    -------
    int or float
        A median of the column (an int for integers) if rounding may change values by more than a thousandth of the
        interquartile range, or of the standard deviation if that range is 0; else 0.
    """
    missing = column.missing()
    return _offset(column, missing, np.percentile(column.numbers()[~missing], (25, 50, 75)), dtype)


def _offset(column: Column, missing: np.ndarray, quartiles: np.ndarray, dtype: np.dtype[Any]) -> float:
    low, median, high = quartiles.tolist()
    rounding = abs(median) * float(np.finfo(dtype).eps) / 2
    shift = int(median) if column.kind == "integer" and abs(median) >= 2**53 else 0
    if shift:  # compute differences of large integers exactly
        low, high = np.percentile(column.numbers(shift)[~missing], (25, 75)).tolist()
    spread = high - low
    if rounding and not spread:
        spread = float(column.numbers(shift)[~missing].std())
    if rounding <= _ROUNDING * spread or not 0 < spread < np.inf:
        return 0
    if column.kind == "number":
        return float(median)
    exact = column.values[~missing].tolist()
    return int(sorted(exact)[len(exact) // 2])


def check_finite(column: Column) -> None:
    """Check that a numeric column has no infinities.

    Raises
    ------
    DataError
        If a value is infinite.
    """
    values = column.numbers()
    infinite = np.isinf(values)
    if infinite.any():
        raise DataError(
            f"{column.label} holds {values[infinite][0]} ({int(infinite.sum())} such rows); "
            "expected finite numbers or empty cells."
        )
