"""Statistics of the training part of a table: medians, offsets, categories."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Any

import numpy as np

from .._common.arithmetic import ceil_div
from .._common.errors import DataError
from ..io.scratch import Empty
from .columns import ArrayTable, Column, Table, join_columns, ordered_texts
from .dialect import non_numeric

__all__ = ["SAMPLE_CELLS", "TableStatistics", "centering_offset", "check_finite", "fit_columns", "sample_step"]

# A column with more categories is an identifier or free text; its one-hot encoding would fill the memory.
_MOST_CATEGORIES = 1000
SAMPLE_CELLS = 1 << 23
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
    statistics = TableStatistics(names, categorical, dtype, center=center)
    statistics.add(table)
    return statistics.records()


class TableStatistics:
    """Statistics of a table's columns, over chunks of rows.

    Medians and quartiles are exact for up to `SAMPLE_CELLS` cells; beyond, they are those of evenly distributed rows.

    Parameters
    ----------
    names, categorical, dtype, center
        See `fit_columns`.
    step : int
        Distance of the rows of which the median is computed, see `sample_step`.
    """

    def __init__(
        self,
        names: list[str],
        categorical: Collection[str],
        dtype: np.dtype[Any],
        *,
        center: bool = True,
        step: int = 1,
    ) -> None:
        self._columns = [_ColumnStatistics(name, name in categorical, dtype, center) for name in names]
        self._step, self._dtype, self._seen = step, dtype, 0

    def add(self, table: Table) -> None:
        """Add the rows of a chunk.

        Raises
        ------
        DataError
            If a column has too many categories, an infinity, or a number too large for the dtype.
        """
        sample = np.arange(-self._seen % self._step, len(table), self._step)  # a slice would keep all rows in memory
        if not self._add_plain(table, sample):
            for one in self._columns:
                one.add(table.column(one.name), sample)
        self._seen += len(table)

    def _add_plain(self, table: Table, sample: np.ndarray) -> bool:
        """Add all columns of a matrix at once, if they are finite numbers; return whether they were added."""
        plain = isinstance(table, ArrayTable) and table.matrix.dtype.kind == "f" and len(table)
        if not plain or any(one.categorical for one in self._columns):
            return False
        assert isinstance(table, ArrayTable)
        matrix = table.matrix[:, [int(one.name) for one in self._columns]]
        gaps = np.isnan(matrix)
        filled = np.where(gaps, 0, matrix) if gaps.any() else matrix
        largest = np.take_along_axis(filled, np.abs(filled).argmax(axis=0)[None], axis=0)[0]
        if not np.abs(largest).max() <= float(np.finfo(self._dtype).max):  # the message is about a single column
            return False
        facts = zip(
            largest.tolist(), gaps.any(axis=0).tolist(), gaps.all(axis=0).tolist(),
            np.equal(filled, filled.astype(self._dtype)).all(axis=0).tolist(),
            np.asarray(np.isin(filled, (0, 1)).all(axis=0)).tolist(),
            strict=True,
        )  # fmt: skip
        values = np.ascontiguousarray(matrix[sample].T)  # in its own dtype, as samples may take much memory
        narrow = matrix.dtype.itemsize < 8
        for one, column, (most, missing, empty, whole, binary) in zip(self._columns, values, facts, strict=True):
            label = f"{table.source}: column {one.name}"
            one.add_plain(Column(label, "number", column, narrow=narrow), most, missing, empty, whole, binary)
        return True

    def records(self) -> list[dict[str, Any]]:
        """Return the records of `fit_columns`; raise DataError if a column has no values."""
        return [one.record() for one in self._columns]


def sample_step(rows: int, columns: int) -> int:
    """Return the distance of the rows of a table whose columns have about `SAMPLE_CELLS` cells in these rows."""
    return max(1, ceil_div(rows * columns, SAMPLE_CELLS))


class _ColumnStatistics:
    def __init__(self, name: str, categorical: bool, dtype: np.dtype[Any], center: bool) -> None:
        self.name = name
        self.categorical, self._dtype, self._center = categorical, dtype, center
        self._label = name
        self._sample: list[Column] = []
        self._categories: set[str] = set()
        self._missing = self._present = self._text = False
        self._whole = self._binary = True
        self._largest = 0.0

    def add(self, column: Column, sample: np.ndarray) -> None:
        missing = column.missing()
        self._label = column.label
        self._missing = self._missing or bool(missing.any())
        if missing.all():  # or no row: the kind is not known
            return
        self._present = True
        if column.kind in ("number", "integer") and not self.categorical:
            self._add_numbers(column, missing, sample)
            return
        self.categorical, self._text = True, self._text or column.kind == "text"
        self._categories.update(text for text in column.texts() if text is not None)
        self._check_categories()

    def add_plain(self, sample: Column, largest: float, missing: bool, empty: bool, whole: bool, binary: bool) -> None:
        """Add numbers that are checked; missing values do not count in ``whole`` and ``binary``."""
        self._label = sample.label
        self._missing = self._missing or missing
        if empty:
            return
        self._present = True
        self._sample.append(sample)
        self._whole = self._whole and whole and abs(largest) < 2**53
        self._binary = self._binary and binary and largest in (0, 1)

    def _add_numbers(self, column: Column, missing: np.ndarray, sample: np.ndarray) -> None:
        check_finite(column)
        self._sample.append(column.take(sample))
        values = column.numbers()[~missing]
        largest = float(values[np.abs(values).argmax()])
        if abs(largest) > float(np.finfo(self._dtype).max):
            more = ", or read the table with dtype='float64'" if self._dtype == np.float32 else ""
            raise DataError(f"{column.label} holds {largest:g}, too large for {self._dtype}; scale the column{more}.")
        # `whole`: the dtype represents all values exactly. (Integers beyond 2^53 are rounded in `values` already.)
        self._whole = self._whole and abs(largest) < 2**53 and np.array_equal(values, values.astype(self._dtype))
        self._binary = self._binary and largest in (0, 1) and bool(np.isin(values, (0, 1)).all())

    def _check_categories(self) -> None:
        if len(self._categories) <= _MOST_CATEGORIES:
            return
        odd = non_numeric(self._categories)
        if odd:
            raise DataError(
                f"{self._label} has values that are not numbers, such as {min(odd)[:40]!r}; expected numbers only."
            )
        raise DataError(
            f"{self._label} has {len(self._categories)} categories; expected at most {_MOST_CATEGORIES}, or leave it "
            "out with drop=."
        )

    def record(self) -> dict[str, Any]:
        if not self._present:
            raise DataError(f"{self._label} has no value in the training part; fill it, or leave it out with drop=.")
        if self.categorical:
            return {
                "name": self.name,
                "kind": "categorical",
                "categories": ordered_texts(list(self._categories)),
                "missing": self._missing,
                "text": self._text,
            }
        column = join_columns(self._sample)
        if column.kind == "number":
            column = replace(column, values=column.values.astype(np.float64))
        missing = column.missing()
        if missing.all():  # in the sample alone
            raise DataError(f"{self._label} has hardly a value in the training part; leave it out with drop=.")
        quartiles = np.percentile(column.numbers()[~missing], (25, 50, 75))
        centered = self._center and not self._whole
        return {
            "name": self.name,
            "kind": "numeric",
            "median": float(quartiles[1]),
            "offset": _offset(column, quartiles, self._dtype) if centered else 0,
            "missing": self._missing,
            "binary": self._binary,
        }


def centering_offset(column: Column, dtype: np.dtype[Any], empty: Empty = np.empty) -> float:
    """Return the offset to subtract from a numeric column before it is rounded to ``dtype``.

    For example, times in seconds near 1.7e9 that differ by 100 are equal in float32. Minus their median they differ.

    Parameters
    ----------
    column : Column
        Finite numbers or integers, at least one.
    dtype : dtype
        float32 or float64.
    empty : function
        Makes the array in which the numbers are sorted.

    Returns
    -------
    int or float
        A median of the column (an int for integers) if rounding may change values by more than a thousandth of the
        interquartile range, or of the standard deviation if that range is 0; else 0.
    """
    numbers, done = empty(len(column), np.float64), 0
    for block in column.blocks():
        present = block.numbers()[~block.missing()]
        numbers[done : done + len(present)] = present
        done += len(present)
    return _offset(column, np.percentile(numbers[:done], (25, 50, 75), overwrite_input=True), dtype)


def _offset(column: Column, quartiles: np.ndarray, dtype: np.dtype[Any]) -> float:
    low, median, high = quartiles.tolist()
    rounding = abs(median) * float(np.finfo(dtype).eps) / 2
    shift = int(median) if column.kind == "integer" and abs(median) >= 2**53 else 0
    if shift:  # compute differences of large integers exactly
        low, high = np.percentile(column.numbers(shift)[~column.missing()], (25, 75)).tolist()
    spread = high - low
    if rounding and not spread:
        spread = float(column.numbers(shift)[~column.missing()].std())
    if rounding <= _ROUNDING * spread or not 0 < spread < np.inf:
        return 0
    if column.kind == "number":
        return float(median)
    exact = column.values[~column.missing()].tolist()
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
