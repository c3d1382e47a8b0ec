"""Column-wise view of tables, common to pandas data frames and NumPy matrices."""

from __future__ import annotations

import collections
import decimal
import importlib
import numbers
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol

import numpy as np

from .._common.errors import DataError
from ..io.scratch import Empty

__all__ = [
    "BLOCK",
    "ArrayTable",
    "Column",
    "FrameTable",
    "Table",
    "array_column",
    "distinct_labels",
    "distinct_texts",
    "distinct_values",
    "import_optional",
    "join_columns",
    "ordered_texts",
]

BLOCK = 1 << 20  # rows of a column to handle at once
_NARROW = ("float16", "float32", "halffloat[pyarrow]", "float[pyarrow]")


@dataclass
class Column:
    """Column of a table, with the exact values of the source.

    Attributes
    ----------
    label : str
        Names of the table and the column, for messages.
    kind : {"number", "integer", "bool", "text"}
    values : ndarray of shape (rows,)
        Numbers: float64, NaN if missing. Integers: any integer dtype, or Python integers beyond 64 bits. Booleans and
        texts: texts, None if missing.
    missing_mask : ndarray of bool of shape (rows,) or None
        Mask of missing integers; None if there are none.
    narrow : bool
        Whether the source has the precision of float32 or less.
    """

    label: str
    kind: Literal["number", "integer", "bool", "text"]
    values: np.ndarray
    missing_mask: np.ndarray | None = None
    narrow: bool = False

    def __len__(self) -> int:
        return len(self.values)

    def take(self, rows: np.ndarray | slice) -> Column:
        """Return the column restricted to some rows."""
        return replace(
            self, values=self.values[rows], missing_mask=None if self.missing_mask is None else self.missing_mask[rows]
        )

    def blocks(self) -> Iterator[Column]:
        """Yield the column in parts of bounded size, at least one."""
        for start in range(0, max(1, len(self)), BLOCK):
            yield self.take(slice(start, start + BLOCK))

    def compress(self, mask: np.ndarray, empty: Empty = np.empty) -> Column:
        """Return the rows of a mask, in an array made by ``empty``; the column has no missing integers."""
        values, done = empty(int(np.count_nonzero(mask)), self.values.dtype), 0
        for start in range(0, len(self), BLOCK):
            part = self.values[start : start + BLOCK][mask[start : start + BLOCK]]
            values[done : done + len(part)] = part
            done += len(part)
        return replace(self, values=values, missing_mask=None)

    def missing(self) -> np.ndarray:
        """Return a boolean mask of the missing values, shape (rows,)."""
        if self.kind == "number":
            mask: np.ndarray = np.isnan(self.values)
            return mask
        if self.kind == "integer":
            return np.zeros(len(self), bool) if self.missing_mask is None else self.missing_mask
        return np.fromiter((value is None for value in self.values), bool, len(self))

    def numbers(self, offset: float = 0) -> np.ndarray:
        """Return the numbers minus an offset in float64, NaN if missing; differences of integers are exact."""
        if self.kind == "number":
            return self.values - offset if offset else self.values
        exact = self.values.astype(object) - offset if offset else self.values
        try:
            floats: np.ndarray = exact.astype(np.float64)
        except OverflowError as error:
            raise DataError(
                f"{self.label} holds an integer too large for float64; expected at most 1.8e308."
            ) from error
        if self.missing_mask is not None:
            floats[self.missing_mask] = np.nan
        return floats

    def texts(self) -> list[str | None]:
        """Return the values as texts; whole numbers have no decimal point, so that 1.0 and 1 are the same category."""
        if self.kind == "number":
            return [None if value != value else _number_text(value) for value in self.values.tolist()]
        if self.kind == "integer":
            texts = map(str, self.values.tolist())
            if self.missing_mask is None:
                return list(texts)
            return [None if gone else text for text, gone in zip(texts, self.missing_mask.tolist(), strict=True)]
        return list(self.values)


def distinct_texts(column: Column, empty: Empty = np.empty) -> tuple[list[str | None], np.ndarray]:
    """Return some texts of a column, each distinct one among them, and for each row its place in these texts.

    A text for each row would take several times the memory of numbers. ``empty`` makes the array of the places.
    """
    if not _is_plain(column):
        return column.texts(), np.arange(len(column))
    values = distinct_values(column)
    places = empty(len(column), np.min_scalar_type(len(values)))
    for start in range(0, len(column), BLOCK):
        rows = slice(start, start + BLOCK)
        places[rows] = np.searchsorted(values, column.values[rows])
    return replace(column, values=values, missing_mask=None).texts(), places


def distinct_labels(column: Column) -> list[str]:
    """Return the distinct texts of a column without missing values, as `ordered_texts`."""
    if _is_plain(column):
        column = replace(column, values=distinct_values(column), missing_mask=None)
    return ordered_texts([text for text in column.texts() if text is not None])


def _is_plain(column: Column) -> bool:
    plain = column.kind in ("integer", "number") and column.values.dtype != object
    return plain and not any(block.missing().any() for block in column.blocks())


def distinct_values(column: Column) -> np.ndarray:
    """Return the sorted distinct values of a column of numbers or integers.

    They are found by blocks, since `numpy.unique` takes several times the memory of its values.
    """
    found, start = column.values[:0], 0
    while start < len(column):
        size = max(BLOCK, len(found))
        found = np.union1d(found, column.values[start : start + size])
        start += size
    return found


def join_columns(columns: Sequence[Column], empty: Empty = np.empty) -> Column:
    """Return the rows of columns one after the other; ``empty`` makes the array of numbers.

    Integers become numbers if one of the columns has numbers. Otherwise all columns are of one kind, except for columns
    without a value.
    """
    if len(columns) == 1:
        return columns[0]
    present = [column for column in columns if not column.missing().all()] or list(columns)
    kinds = {column.kind for column in present}
    if kinds == {"integer", "number"}:
        kinds = {"number"}
    if len(kinds) > 1:
        raise DataError(f"{columns[0].label} holds {' and '.join(sorted(kinds))}; expected values of one kind.")
    [kind] = kinds
    label, narrow = columns[0].label, all(column.narrow for column in present)
    if kind == "number":
        rows = sum(map(len, columns))
        return Column(label, kind, _join_arrays(map(_as_numbers, columns), empty(rows, np.float64)), narrow=narrow)
    if kind == "integer":
        values = [np.zeros(len(column), np.int64) if column.kind != kind else column.values for column in columns]
        gaps = any(column.kind != kind or column.missing_mask is not None for column in columns)
        masks = np.concatenate([column.missing() for column in columns]) if gaps else None
        return Column(label, kind, _join_integers(values, empty), masks if masks is not None and masks.any() else None)
    texts = [np.full(len(column), None, object) if column.kind != kind else column.values for column in columns]
    return Column(label, kind, np.concatenate(texts))


def _as_numbers(column: Column) -> np.ndarray:
    if column.kind in ("number", "integer"):
        return column.numbers()
    return np.full(len(column), np.nan)


def _join_integers(values: Sequence[np.ndarray], empty: Empty) -> np.ndarray:
    """Return integers in a common dtype; int64 and uint64 have none but Python's integers."""
    common = np.result_type(*values)
    return _join_arrays(values, empty(sum(map(len, values)), object if common.kind == "f" else common))


def _join_arrays(arrays: Iterable[np.ndarray], out: np.ndarray) -> np.ndarray:
    done = 0
    for array in arrays:
        out[done : done + len(array)] = array
        done += len(array)
    return out


class Table(Protocol):
    """Interface of a table for preprocessing.

    Attributes
    ----------
    names : list of str
        Names of the columns.
    source : str
        File of the table, for messages.
    header : bool or None
        Whether the first line of a text file names the columns; None for other sources.
    """

    names: list[str]
    source: str
    header: bool | None

    def __len__(self) -> int: ...

    def column(self, name: str) -> Column: ...

    def take(self, rows: np.ndarray) -> Table: ...

    def without(self, name: str) -> Table: ...


class FrameTable:
    """Table in a pandas DataFrame."""

    def __init__(self, frame: Any, source: str, header: bool | None = None) -> None:
        self.frame, self.source, self.header = frame, source, header
        self.names = [str(name) for name in frame.columns]
        for name, count in collections.Counter(self.names).items():
            if count > 1:
                raise DataError(f"{source} has {count} columns named {name!r}; names must differ.")

    def __len__(self) -> int:
        return len(self.frame)

    def take(self, rows: np.ndarray) -> FrameTable:
        return FrameTable(self.frame.iloc[rows], self.source, self.header)

    def without(self, name: str) -> FrameTable:
        place = self.names.index(name)
        others = [other for other in range(len(self.names)) if other != place]
        return FrameTable(self.frame.iloc[:, others], self.source, self.header)

    def column(self, name: str) -> Column:
        series = self.frame.iloc[:, self.names.index(name)]
        label = f"{self.source}: column {name!r}"
        types = import_optional("pandas").api.types
        dtype = series.dtype
        if types.is_complex_dtype(dtype):
            raise DataError(f"{label} holds complex numbers; expected real numbers or categories.")
        if types.is_integer_dtype(dtype):
            missing = series.isna().to_numpy(dtype=bool)
            exact = np.uint64 if types.is_unsigned_integer_dtype(dtype) else np.int64
            values = series.fillna(0).to_numpy(dtype=exact) if missing.any() else series.to_numpy(dtype=exact)
            return Column(label, "integer", values, missing if missing.any() else None)
        if types.is_float_dtype(dtype):
            values = series.to_numpy(dtype=np.float64, na_value=np.nan)
            return Column(label, "number", values, narrow=str(dtype).lower() in _NARROW)
        if str(dtype).startswith(("datetime", "timedelta", "period", "interval", "timestamp", "date", "duration")):
            raise DataError(f"{label} holds {dtype} values; expected numbers or categories (convert or leave it out).")
        return _object_column(series, label)


class ArrayTable:
    """Table in a matrix of real numbers, whose columns are named by their index."""

    header: bool | None = None

    def __init__(self, matrix: np.ndarray, source: str) -> None:
        self.matrix = matrix
        self.source = source
        self.names = [str(index) for index in range(matrix.shape[1])]

    def __len__(self) -> int:
        return len(self.matrix)

    def take(self, rows: np.ndarray) -> ArrayTable:
        return ArrayTable(self.matrix[rows], self.source)

    def without(self, name: str) -> ArrayTable:
        return ArrayTable(np.delete(self.matrix, int(name), axis=1), self.source)

    def column(self, name: str) -> Column:
        return array_column(self.matrix[:, int(name)], f"{self.source}: column {name}")


def array_column(array: np.ndarray, label: str) -> Column:
    """Create a column from a 1-D NumPy array of booleans, real numbers or strings."""
    if array.dtype.kind in "iu":
        return Column(label, "integer", array)
    if array.dtype.kind == "f":
        return Column(label, "number", array.astype(np.float64), narrow=array.dtype.itemsize < 8)
    if array.dtype.kind == "b":
        return Column(label, "bool", np.array([str(value) for value in array.tolist()], dtype=object))
    if array.dtype.kind in "US":
        return Column(label, "text", np.array([_cell_text(value, label) for value in array.tolist()], dtype=object))
    raise DataError(f"{label} has dtype {array.dtype}; expected booleans, real numbers or strings.")


def ordered_texts(texts: Sequence[str]) -> list[str]:
    """Return the distinct texts, sorted by value if all are whole numbers, else by code points."""
    distinct = set(texts)
    try:
        return sorted(distinct, key=lambda text: (int(text), text))
    except ValueError:
        return sorted(distinct)


def import_optional(module: str) -> Any:
    """Import pandas or pyarrow; raise DataError with the command that installs it."""
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
    # Decimals and integers beyond 64 bits are objects in pandas. A categorical column of numbers stays categorical.
    categorical = isinstance(series.dtype, import_optional("pandas").CategoricalDtype)
    if kinds and not categorical and all(_is_number_type(kind) for kind in kinds):
        if all(_is_whole(cell) for cell in cells[~missing]):
            whole = [0 if gone else int(cell) for cell, gone in zip(cells, missing, strict=True)]
            return Column(label, "integer", np.array(whole, dtype=object), missing if missing.any() else None)
        try:
            floats = [np.nan if gone else float(cell) for cell, gone in zip(cells, missing, strict=True)]
        except OverflowError as error:
            raise DataError(f"{label} holds an integer too large for float64; expected at most 1.8e308.") from error
        return Column(label, "number", np.array(floats, dtype=np.float64))
    values = [None if gone else _cell_text(cell, label) for cell, gone in zip(cells, missing, strict=True)]
    return Column(label, "text", np.array(values, dtype=object))


def _is_number_type(kind: type) -> bool:
    return issubclass(kind, (numbers.Real, decimal.Decimal)) and not issubclass(kind, (bool, np.bool_))


def _is_whole(cell: Any) -> bool:
    """Whether a cell is an integer, or a decimal without digits after the point."""
    if isinstance(cell, decimal.Decimal):
        return cell.is_finite() and cell.as_tuple().exponent >= 0  # type: ignore[operator]
    return isinstance(cell, numbers.Integral)


def _cell_text(cell: object, label: str) -> str | None:
    """Convert a cell to stripped text, None if it is empty."""
    if isinstance(cell, (bool, np.bool_)):
        return str(cell)
    if isinstance(cell, str):
        return cell.strip() or None
    if isinstance(cell, bytes):
        return cell.decode("utf-8", "replace").strip() or None
    if isinstance(cell, numbers.Integral):
        return str(int(cell))
    if isinstance(cell, numbers.Real):
        return _number_text(float(cell))
    raise DataError(f"{label} holds a value of type {type(cell).__name__}; expected numbers or categories.")
