"""Reading CSV, TSV and Parquet files into frames, strictly."""

from __future__ import annotations

import collections
import csv
from collections.abc import Collection
from pathlib import Path
from typing import Any

from ..errors import DataError
from .columns import FrameTable, require

__all__ = ["FRAME_SUFFIXES", "is_number", "mistyped", "read_frame"]

_SEPARATORS = {".csv": ",", ".tsv": "\t"}
FRAME_SUFFIXES = (".csv", ".tsv", ".parquet")


def read_frame(path: Path, header: bool | None = None, texts: Collection[str] = ()) -> tuple[FrameTable, bool]:
    """Read a table of named columns.

    Parameters
    ----------
    path : Path
        A file that ends in .csv, .tsv or .parquet; text is UTF-8.
    header : bool or None
        Whether the first line of a text file names the columns; None: yes, unless all of its fields are
        numbers. Without names the columns are ``column_0``, ``column_1``, ...
    texts : collection of str
        Columns of a text file to be read as text even where they look like numbers.

    Returns
    -------
    table : FrameTable
    header : bool
        Whether the columns were named by the file.

    Raises
    ------
    DataError
        If the file cannot be read, is empty, ragged, or not what its suffix says.
    """
    if not path.is_file():
        raise DataError(f"{path} does not exist or is not a file; expected a table.")
    if path.suffix.lower() == ".parquet":
        return FrameTable(_read_parquet(path), str(path), wide=True), True
    separator = _SEPARATORS[path.suffix.lower()]
    names, named = _check_lines(path, separator, header)
    pandas = require("pandas")
    try:
        frame = pandas.read_csv(
            path,
            sep=separator,
            header=0 if named else None,
            names=names,
            index_col=False,
            dtype={name: str for name in texts if name in names},
            skipinitialspace=True,
            low_memory=False,
            encoding="utf-8-sig",
        )
    except (ValueError, OSError, OverflowError) as error:
        raise DataError(f"{path} cannot be read as a table: {_first_line(error)}.") from error
    return _with_rows(FrameTable(frame, str(path), wide=False)), named


def _with_rows(table: FrameTable) -> FrameTable:
    if not len(table):
        raise DataError(f"{table.source} has no rows; expected at least one.")
    return table


def _check_lines(path: Path, separator: str, header: bool | None) -> tuple[list[str], bool]:
    """Column names, after a check that all lines have as many fields: pandas fills or shifts in silence."""
    first: list[str] = []
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.reader(stream, delimiter=separator, skipinitialspace=True, strict=True)
            for fields in reader:
                if not fields:
                    continue
                if not first:
                    first = fields
                elif len(fields) != len(first):
                    raise DataError(
                        f"{path}, line {reader.line_num}: {len(fields)} fields, expected {len(first)} "
                        "as in the first line."
                    )
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text (byte {error.start}); expected a text table.") from error
    except (csv.Error, OSError) as error:
        raise DataError(f"{path} cannot be read as a table: {_first_line(error)}.") from error
    if not first or not any(field.strip() for field in first):
        raise DataError(f"{path} is empty; expected a line of column names and rows.")
    named = header if header is not None else not all(is_number(field) for field in first)
    if not named:
        return [f"column_{index}" for index in range(len(first))], False
    names = [name.strip() or f"column_{index}" for index, name in enumerate(first)]
    for name, count in collections.Counter(names).items():
        if count > 1:
            raise DataError(f"{path} has {count} columns named {name!r}; names must differ.")
    return names, True


def _read_parquet(path: Path) -> Any:
    pandas = require("pandas")
    require("pyarrow")
    try:
        frame = pandas.read_parquet(path, engine="pyarrow")
    except Exception as error:  # pyarrow has exceptions of its own for every kind of damage
        raise DataError(f"{path} cannot be read as Parquet: {_first_line(error)}.") from error
    if not len(frame) or not len(frame.columns):
        raise DataError(f"{path} has {len(frame)} rows and {len(frame.columns)} columns; expected some.")
    return frame


def is_number(field: str) -> bool:
    """Whether a text can be read as one."""
    try:
        float(field)
    except ValueError:
        return False
    return True


def mistyped(texts: Collection[str]) -> list[str]:
    """Those that are no numbers, where they are fewer than those that are."""
    odd = [text for text in texts if not is_number(text)]
    return odd if len(odd) < len(texts) / 2 else []


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:200].rstrip(".")
