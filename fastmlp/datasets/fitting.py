"""What the training part of a table teaches: medians, offsets and categories."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np

from .._common.errors import DataError
from .columns import Column, Table, ordered_texts
from .dialect import non_numeric

__all__ = ["check_finite", "fit_columns", "centering_offset"]

# More categories than this is an identifier or free text, and would fill the memory with zeros.
_MOST_CATEGORIES = 1000
# Of the spread of a column: what rounding may change of its values.
_ROUNDING = 1e-3


def fit_columns(
    table: Table, names: list[str], categorical: Collection[str], dtype: np.dtype[Any], *, center: bool = True
) -> list[dict[str, Any]]:
    """Learn medians, offsets and categories from the training part.

    Parameters
    ----------
    table : Table
        The training part.
    names : list of str
        The feature columns, in order.
    categorical : collection of str
        Columns of numbers to be one-hot encoded, besides those of text and booleans.
    dtype : dtype
        Of the features; decides which columns need an offset.
    center : bool
        Whether columns may have one: pixels of one image are compared with each other.

    Returns
    -------
    list of dict
        One JSON-able record a column.

    Raises
    ------
    DataError
        If a column has no value at all, too many categories, an infinity, or a number too large for ``dtype``.
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
                raise DataError(f"{column.label} has {len(odd)} values that are no numbers, {odd[0][:40]!r} for one.")
            raise DataError(
                f"{column.label} has {len(categories)} categories, at most {_MOST_CATEGORIES} are one-hot "
                "encoded; leave it out with drop=."
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
    # Nothing is lost of pixels and of counts. (Beyond 2^53 the values of an integer column are rounded here already.)
    whole = abs(largest) < 2**53 and np.array_equal(values, values.astype(dtype))
    return {
        "median": float(quartiles[1]),
        "offset": _offset(column, missing, quartiles, dtype) if center and not whole else 0,
        "missing": bool(missing.any()),
        "binary": largest in (0, 1) and bool(np.isin(values, (0, 1)).all()),
    }


def centering_offset(column: Column, dtype: np.dtype[Any]) -> float:
    """What is subtracted from a column of numbers before it is rounded to ``dtype``.

    Values near 1.7e9 that differ by 100, as times in seconds do, are told apart by float64 but not by float32. Less
    their median they are.

    Parameters
    ----------
    column : Column
        Finite numbers or integers, at least one of them.
    dtype : dtype
        float32 or float64.

    Returns
    -------
    int or float
        A median of the column, an int for integers, where rounding may change values by more than a thousandth of
        the interquartile range (of the standard deviation where that is 0); else 0.
    """
    missing = column.missing()
    return _offset(column, missing, np.percentile(column.numbers()[~missing], (25, 50, 75)), dtype)


def _offset(column: Column, missing: np.ndarray, quartiles: np.ndarray, dtype: np.dtype[Any]) -> float:
    low, median, high = quartiles.tolist()
    rounding = abs(median) * float(np.finfo(dtype).eps) / 2
    shift = int(median) if column.kind == "integer" and abs(median) >= 2**53 else 0
    if shift:  # float64 may round their differences away
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
    """Find infinities in a column of numbers.

    Raises
    ------
    DataError
        If there are some.
    """
    values = column.numbers()
    infinite = np.isinf(values)
    if infinite.any():
        raise DataError(
            f"{column.label} holds {values[infinite][0]} ({int(infinite.sum())} such rows); "
            "expected finite numbers or empty cells."
        )
