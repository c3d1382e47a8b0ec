"""Tables seen column by column: the same view of a pandas frame and of a NumPy matrix."""

from __future__ import annotations

import collections
import decimal
import importlib
import numbers
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np

from ..errors import DataError

__all__ = ["ArrayTable", "Column", "FrameTable", "Table", "array_column", "ordered_texts", "require"]


@dataclass
class Column:
    """One column: float64 values with NaN where missing, or texts with None where missing.

    `wide` says that the source holds float64 (text files have no such thing).
    """

    label: str
    kind: Literal["number", "integer", "bool", "text"]
    values: np.ndarray
    wide: bool = False

    def missing(self) -> np.ndarray:
        """Boolean mask of the missing values, shape (rows,)."""
        if self.kind in ("number", "integer"):
            mask: np.ndarray = np.isnan(self.values)
            return mask
        return np.fromiter((value is None for value in self.values), bool, len(self.values))

    def texts(self) -> list[str | None]:
        """The values as texts; a whole number loses its point, since missing values turn 1 into 1.0."""
        if self.kind in ("number", "integer"):
            return [None if value != value else _number_text(value) for value in self.values.tolist()]
        return list(self.values)


class Table(Protocol):
    """What preprocessing asks of a table."""

    names: list[str]
    source: str

    def __len__(self) -> int: ...

    def column(self, name: str) -> Column: ...

    def take(self, rows: np.ndarray) -> Table: ...


class FrameTable:
    """A pandas DataFrame; `wide` as in `Column`."""

    def __init__(self, frame: Any, source: str, *, wide: bool) -> None:
        self.frame = frame
        self.source = source
        self.wide = wide
        self.names = [str(name) for name in frame.columns]
        for name, count in collections.Counter(self.names).items():
            if count > 1:
                raise DataError(f"{source} has {count} columns named {name!r}; names must differ.")

    def __len__(self) -> int:
        return len(self.frame)

    def take(self, rows: np.ndarray) -> FrameTable:
        return FrameTable(self.frame.iloc[rows], self.source, wide=self.wide)

    def column(self, name: str) -> Column:
        series = self.frame.iloc[:, self.names.index(name)]
        label = f"{self.source}: column {name!r}"
        types = require("pandas").api.types
        dtype = series.dtype
        if types.is_complex_dtype(dtype):
            raise DataError(f"{label} holds complex numbers; expected real numbers or categories.")
        if types.is_numeric_dtype(dtype) and not types.is_bool_dtype(dtype):
            values = series.to_numpy(dtype=np.float64, na_value=np.nan)
            if types.is_integer_dtype(dtype):
                return Column(label, "integer", values)
            return Column(label, "number", values, self.wide and str(dtype).lower() == "float64")
        if str(dtype).startswith(("datetime", "timedelta", "period", "interval")):
            raise DataError(f"{label} holds {dtype} values; expected numbers or categories (convert or drop it).")
        return _object_column(series, label)


class ArrayTable:
    """A matrix of real numbers whose columns are named by their positions."""

    def __init__(self, matrix: np.ndarray, source: str) -> None:
        self.matrix = matrix
        self.source = source
        self.names = [str(index) for index in range(matrix.shape[1])]

    def __len__(self) -> int:
        return len(self.matrix)

    def take(self, rows: np.ndarray) -> ArrayTable:
        return ArrayTable(self.matrix[rows], self.source)

    def column(self, name: str) -> Column:
        return array_column(self.matrix[:, int(name)], f"{self.source}: column {name}")


def array_column(array: np.ndarray, label: str) -> Column:
    """A column out of a 1-D NumPy array of booleans, real numbers or strings."""
    if array.dtype.kind in "iu":
        return Column(label, "integer", array.astype(np.float64))
    if array.dtype.kind == "f":
        return Column(label, "number", array.astype(np.float64), array.dtype.itemsize >= 8)
    if array.dtype.kind == "b":
        return Column(label, "bool", np.array([str(value) for value in array.tolist()], dtype=object))
    if array.dtype.kind in "US":
        texts = [v.decode("utf-8", "replace") if isinstance(v, bytes) else v for v in array.tolist()]
        return Column(label, "text", np.array(texts, dtype=object))
    raise DataError(f"{label} has dtype {array.dtype}; expected booleans, real numbers or strings.")


def ordered_texts(texts: Sequence[str]) -> list[str]:
    """Distinct texts in order: by value where all are whole numbers, else by code points."""
    distinct = set(texts)
    try:
        return sorted(distinct, key=lambda text: (int(text), text))
    except ValueError:
        return sorted(distinct)


def require(module: str) -> Any:
    """Import pandas or pyarrow, or say how to get it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise DataError(
            f"Reading this kind of table needs {module}, which is not installed: pip install fastmlp[tables]."
        ) from error


def _number_text(value: float) -> str:
    return str(int(value)) if value.is_integer() else repr(value)


def _object_column(series: Any, label: str) -> Column:
    missing = series.isna().to_numpy(dtype=bool)
    cells = series.to_numpy(dtype=object)
    kinds = {type(cell) for cell in cells[~missing]}
    if kinds and all(issubclass(kind, (bool, np.bool_)) for kind in kinds):
        values = [None if gone else str(bool(cell)) for cell, gone in zip(cells, missing, strict=True)]
        return Column(label, "bool", np.array(values, dtype=object))
    # Decimals and integers beyond 64 bits come as objects; a categorical column of numbers stays one.
    categorical = isinstance(series.dtype, require("pandas").CategoricalDtype)
    if kinds and not categorical and all(_is_number_type(kind) for kind in kinds):
        try:
            floats = [np.nan if gone else float(cell) for cell, gone in zip(cells, missing, strict=True)]
        except OverflowError as error:
            raise DataError(f"{label} holds an integer too large for float64; expected at most 1.8e308.") from error
        return Column(label, "number", np.array(floats, dtype=np.float64))
    values = [None if gone else _cell_text(cell, label) for cell, gone in zip(cells, missing, strict=True)]
    return Column(label, "text", np.array(values, dtype=object))


def _is_number_type(kind: type) -> bool:
    return issubclass(kind, (numbers.Real, decimal.Decimal)) and not issubclass(kind, (bool, np.bool_))


def _cell_text(cell: object, label: str) -> str:
    if isinstance(cell, (str, bool, np.bool_)):
        return str(cell)
    if isinstance(cell, bytes):
        return cell.decode("utf-8", "replace")
    if isinstance(cell, numbers.Real):
        return _number_text(float(cell))
    raise DataError(f"{label} holds a value of type {type(cell).__name__}; expected numbers or categories.")
