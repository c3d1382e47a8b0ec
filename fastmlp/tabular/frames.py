"""Columns of data frames, Arrow tables, dicts and arrays, as numbers, categories or dates."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from numbers import Real
from typing import Any, ClassVar

import numpy as np
from scipy import sparse
from sklearn.utils.validation import check_array

from .._common.validation import Array
from ..datasets.columns import import_optional

__all__ = [
    "Categories", "Column", "Dates", "Numbers", "empty_column", "has_names", "read_columns", "read_matrix", "text_of",
    "to_frame",
]  # fmt: skip


@dataclass(frozen=True)
class Numbers:
    """Column of numbers.

    Attributes
    ----------
    values : ndarray of float64, of shape (N,)
        NaN where a number is missing.
    """

    values: Array
    kind: ClassVar[str] = "number"

    def missing(self) -> Array:
        """Return a mask of the missing values, of shape (N,)."""
        mask: Array = np.isnan(self.values)
        return mask

    def as_categories(self) -> Categories:
        """Return the numbers as texts."""
        values, codes = np.unique(self.values, return_inverse=True)
        levels = [text_of(value) for value in values.tolist()]
        return Categories([level or "" for level in levels], np.where(self.missing(), -1, codes.reshape(-1)))


@dataclass(frozen=True)
class Categories:
    """Column of categories.

    Attributes
    ----------
    levels : list of str
        Distinct texts.
    codes : ndarray of int64, of shape (N,)
        Place of each row's text in ``levels``, -1 where it is missing.
    """

    levels: list[str]
    codes: Array
    kind: ClassVar[str] = "category"

    def missing(self) -> Array:
        """Return a mask of the missing values, of shape (N,)."""
        mask: Array = self.codes < 0
        return mask

    def as_numbers(self, name: Any) -> Numbers | None:
        """Return the numbers that the texts stand for, or None if one is not a number.

        Raises
        ------
        ValueError
            If a number is infinite; the message has the ``name`` of the column.
        """
        try:
            numbers = [float(level) for level in self.levels]
        except ValueError:
            return None
        return Numbers(_finite(np.array([*numbers, np.nan])[self.codes], name))


@dataclass(frozen=True)
class Dates:
    """Column of points in time.

    Attributes
    ----------
    values : ndarray of datetime64[s], of shape (N,)
        NaT where one is missing.
    """

    values: Array
    kind: ClassVar[str] = "date"

    def missing(self) -> Array:
        """Return a mask of the missing values, of shape (N,)."""
        mask: Array = np.isnat(self.values)
        return mask


Column = Numbers | Categories | Dates


def empty_column(kind: str, rows: int) -> Column:
    """Return a column of a kind whose values are all missing."""
    if kind == "number":
        return Numbers(np.full(rows, np.nan))
    if kind == "date":
        return Dates(np.full(rows, "NaT", "datetime64[s]"))
    return Categories([], np.full(rows, -1))


def has_names(X: Any) -> bool:
    """Return whether the columns of a table have names."""
    # SciPy has a sparse matrix that is a mapping.
    return not sparse.issparse(X) and (isinstance(X, Mapping) or hasattr(X, "columns") or hasattr(X, "column_names"))


def to_frame(X: Any) -> Any:
    """Convert a table with named columns to a pandas data frame.

    Parameters
    ----------
    X : pandas or polars data frame, Arrow table, or dict of columns

    Raises
    ------
    ValueError
        If it is of another kind, has two columns of the same name, or columns of different lengths.
    """
    pandas = import_optional("pandas")
    if isinstance(X, pandas.DataFrame):
        frame = X
    elif isinstance(X, Mapping):
        frame = pandas.DataFrame({name: _as_column(column, name) for name, column in X.items()})
    elif hasattr(X, "to_pandas"):  # polars, Arrow
        frame = X.to_pandas()
    else:
        raise ValueError(f"X is a {type(X).__name__}; expected a data frame, an Arrow table, a dict or an array.")
    if not frame.columns.is_unique:
        twice = frame.columns[frame.columns.duplicated()][0]
        raise ValueError(f"X has two columns named {twice!r}; expected different names.")
    return frame


def _as_column(values: Any, name: Any) -> Any:
    """Return a column of a dict as a list or an array; a scalar is one row."""
    if not isinstance(values, (list, tuple)):
        return np.atleast_1d(np.asarray(values))
    for value in values:
        if isinstance(value, (list, tuple, dict)):
            raise ValueError(f"Column {name!r} has a {type(value).__name__} in a row; expected a number, text or date.")
    # NumPy would make an array of texts of a list of texts and NaN, with the text "nan".
    return list(values)


def read_columns(X: Any) -> list[Column]:
    """Return the columns of a data frame or a matrix.

    Parameters
    ----------
    X : pandas data frame or ndarray of shape (N, columns)

    Raises
    ------
    ValueError
        If a column has infinite or complex numbers, or values of another kind.
    """
    if isinstance(X, np.ndarray) and X.dtype.kind in "fiub":
        return [Numbers(_finite(X[:, place].astype(np.float64), place)) for place in range(X.shape[1])]
    if isinstance(X, np.ndarray):  # objects or texts
        X = import_optional("pandas").DataFrame(X).infer_objects()
    return [_read_series(X.iloc[:, place], X.columns[place]) for place in range(X.shape[1])]


def read_matrix(X: Any) -> Array:
    """Return a matrix of numbers or objects; raise the errors of scikit-learn's `check_array`."""
    matrix: Array = check_array(X, dtype=None, ensure_all_finite="allow-nan")
    if matrix.dtype.kind == "c":
        raise ValueError("Complex data not supported; expected real numbers or categories.")
    return matrix


def _read_series(series: Any, name: Any) -> Column:
    pandas = import_optional("pandas")
    types, dtype = pandas.api.types, series.dtype
    if types.is_complex_dtype(dtype):
        raise ValueError(f"Column {name!r} has complex numbers; expected real numbers or categories.")
    if types.is_bool_dtype(dtype) and not isinstance(dtype, pandas.CategoricalDtype):
        missing = series.isna().to_numpy(dtype=bool)
        codes = series.fillna(False).to_numpy(dtype=bool).astype(np.int64)
        return Categories(["False", "True"], np.where(missing, -1, codes))
    if types.is_timedelta64_dtype(dtype):
        seconds = series.dt.total_seconds().to_numpy(dtype=np.float64)
        return Numbers(seconds)
    if isinstance(dtype, pandas.PeriodDtype):
        series = series.dt.to_timestamp()
        dtype = series.dtype
    if types.is_datetime64_any_dtype(dtype):
        if getattr(dtype, "tz", None) is not None:
            series = series.dt.tz_convert("UTC").dt.tz_localize(None)
        return Dates(series.to_numpy().astype("datetime64[s]"))
    if types.is_numeric_dtype(dtype):
        return Numbers(_finite(series.to_numpy(dtype=np.float64, na_value=np.nan), name))
    return _read_objects(series, name)


def _read_objects(series: Any, name: Any) -> Column:
    pandas = import_optional("pandas")
    if isinstance(series.dtype, pandas.CategoricalDtype):
        codes, uniques = series.cat.codes.to_numpy(np.int64), list(series.cat.categories)
    else:
        codes, uniques = pandas.factorize(series, use_na_sentinel=True)
        if len(uniques) and all(isinstance(value, datetime.date) for value in uniques):
            dates = pandas.to_datetime(pandas.Series(list(uniques)), utc=True).dt.tz_localize(None)
            return Dates(np.append(dates.to_numpy().astype("datetime64[s]"), np.datetime64("NaT"))[codes])
        if len(uniques) and all(_is_number(value) for value in uniques):
            numbers = np.append(np.array([float(value) for value in uniques]), np.nan)
            return Numbers(_finite(numbers[codes], name))
    for value in uniques:
        if not isinstance(value, (str, bytes, bool, np.bool_)) and not _is_number(value):
            kind = type(value).__name__
            raise TypeError(
                f"Column {name!r} has a value of type {kind}; argument must be a string, a date or a real number, "
                "the same kind in all rows."
            )
    levels, places = _merge([text_of(value) for value in uniques])
    return Categories(levels, np.append(places, -1)[codes])


def _merge(texts: list[str | None]) -> tuple[list[str], Array]:
    """Return the distinct texts, sorted, and the place of each among them; -1 for None."""
    levels = sorted({text for text in texts if text is not None})
    index = {text: place for place, text in enumerate(levels)}
    return levels, np.array([-1 if text is None else index[text] for text in texts], np.int64)


def _is_number(value: Any) -> bool:
    return isinstance(value, (Real, Decimal)) and not isinstance(value, (bool, np.bool_))


def text_of(value: Any) -> str | None:
    """Return a level as text, which is the same for 1 and 1.0; None if it is empty."""
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if _is_number(value):
        return str(int(value)) if float(value).is_integer() else repr(float(value))
    return str(value).strip() or None


def _finite(values: Array, name: Any) -> Array:
    infinite = np.isinf(values)
    if infinite.any():
        row = int(infinite.argmax())
        raise ValueError(
            f"Column {name!r} has {values[row]} (infinity) in row {row}; expected finite numbers, or NaN where one is "
            "missing."
        )
    return values
