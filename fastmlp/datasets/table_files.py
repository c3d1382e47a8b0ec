"""Strict readers of CSV, TSV and Parquet files into data frames."""

from __future__ import annotations

import collections
import sys
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from .._common.errors import DataError, DataWarning, warn_user
from .columns import FrameTable, import_optional
from .dialect import MISSING, SEPARATORS, UNKNOWN_FORMAT, TextFormat, detect_format, is_number, read_records

__all__ = [
    "FRAME_SUFFIXES",
    "TextFile",
    "first_line_of",
    "is_text_file",
    "read_numbers",
    "read_parquet",
    "reject_format",
]

FRAME_SUFFIXES = (*SEPARATORS, ".parquet")
_UNNAMED = ("", "Unnamed: 0")  # name of an index in pandas' to_csv, and after a round trip through read_csv


class TextFile:
    """Text table with known format and column names, whose lines all have the same number of fields.

    Parameters
    ----------
    path : Path
        A .csv or .tsv file in UTF-8.
    given, likely : TextFormat
        See `detect_format`.

    Attributes
    ----------
    format : TextFormat
    names : list of str
        ``column_0``, ``column_1``, ... without a header.
    row_labels : bool
        Whether only the first column has no name, as in files with an index written by pandas.

    Raises
    ------
    DataError
        If the file cannot be read, is empty, or has lines with different numbers of fields.
    """

    def __init__(self, path: Path, given: TextFormat = UNKNOWN_FORMAT, likely: TextFormat = UNKNOWN_FORMAT) -> None:
        if not path.is_file():
            raise DataError(f"{path} does not exist or is not a file; expected a table.")
        self.path = path
        self.format, self._guesses = detect_format(path, given, likely)
        first = self._check_lines()
        self.row_labels = False
        if self.format.header:
            self.names = [name.strip() or f"column_{index}" for index, name in enumerate(first)]
            self.row_labels = len(first) > 1 and first[0].strip() in _UNNAMED
            for name, count in collections.Counter(self.names).items():
                if count > 1:
                    raise DataError(f"{path} has {count} columns named {name!r}; names must differ.")
        else:
            self.names = [f"column_{index}" for index in range(len(first))]

    def _check_lines(self) -> list[str]:
        """Return the fields of the first line; raise DataError for lines of another length, which pandas accepts."""
        assert self.format.separator is not None
        first: list[str] = []
        for line, fields in read_records(self.path, self.format.separator):
            if not first:
                first = fields
            elif len(fields) != len(first):
                raise DataError(
                    f"{self.path}, line {line}: {len(fields)} fields, expected {len(first)} as in the first line, "
                    f"separated by {self.format.separator!r}."
                )
        return first

    def report(self, *, header: bool = True) -> None:
        """Warn about guesses of the format; ``header`` False leaves out that of the header."""
        guesses = [text for option, text in self._guesses.items() if header or option != "header"]
        if guesses:
            warn_user(f"{self.path}: {'; '.join(guesses)}.", DataWarning)

    def read(self, texts: Collection[str] = ()) -> FrameTable:
        """Read the rows; columns named in ``texts`` are read as texts even if they look like numbers."""
        self.report()
        table = next(self.read_chunks(texts), None)
        if table is None or not len(table):
            raise DataError(f"{self.path} has no rows; expected at least one.")
        return table

    def read_chunks(self, texts: Collection[str] = (), rows: int | None = None) -> Iterator[FrameTable]:
        """Yield the rows, in tables of ``rows`` rows (default: in one), each with its own types of columns."""
        pandas = import_optional("pandas")
        try:
            with pandas.read_csv(
                self.path,
                sep=self.format.separator,
                decimal=self.format.decimal,
                header=0 if self.format.header else None,
                names=self.names,
                index_col=False,
                dtype={name: "string" for name in texts if name in self.names},
                dtype_backend="numpy_nullable",  # columns of integers with empty cells stay integer
                na_values=sorted(MISSING),
                keep_default_na=False,
                skipinitialspace=True,
                low_memory=False,
                encoding="utf-8-sig",
                chunksize=rows or sys.maxsize,
            ) as frames:
                for frame in frames:
                    for name in frame.columns[frame.dtypes == "string"]:
                        frame[name] = _infer_type(frame[name], name in texts, self.format.decimal or ".")
                    yield FrameTable(frame, str(self.path), self.format.header)
        except (ValueError, OSError, OverflowError) as error:
            if isinstance(error, DataError):
                raise
            raise DataError(f"{self.path} cannot be read as a table: {first_line_of(error)}.") from error


def _infer_type(series: Any, as_text: bool, decimal: str) -> Any:
    """Strip the texts of a column, and convert them to numbers or booleans if all of them are such.

    pandas reads a column as text if a boolean is followed by a space, or an integer has more than 64 bits.
    """
    cleaned: dict[str, Any] = {}
    for raw in series.dropna().unique():
        text = raw.strip()
        cleaned[raw] = None if text in MISSING else text
    present = [text for text in cleaned.values() if text is not None]
    convert: Any = None
    if present and not as_text:
        if all(text.lower() in ("true", "false") for text in present):
            convert = _boolean
        elif all(_is_whole(text) for text in present):
            convert = int
        elif all(is_number(text, decimal) for text in present):
            convert = _floating
    if convert is not None:
        cleaned = {raw: None if text is None else convert(text) for raw, text in cleaned.items()}
    elif all(raw == text for raw, text in cleaned.items()):
        return series
    cells = [cleaned.get(raw) for raw in series.to_numpy(dtype=object, na_value=None)]
    return import_optional("pandas").Series(cells, index=series.index, dtype=object)


def _boolean(text: str) -> bool:
    return text.lower() == "true"


def _floating(text: str) -> float:
    return float(text.replace(",", "."))


def _is_whole(text: str) -> bool:
    return text.lstrip("+-").isdecimal() and is_number(text)


def is_text_file(path: Path) -> bool:
    """Whether the suffix of a table is that of a text file."""
    return path.suffix.lower() in SEPARATORS


def reject_format(path: Path, given: TextFormat) -> None:
    """Check that options of a text format are given for a text file only.

    Raises
    ------
    DataError
        If an entry of ``given`` is not None and ``path`` is not a text file.
    """
    if is_text_file(path):
        return
    for option, value in given._asdict().items():
        if value is not None:
            raise DataError(f"{option}={value!r} is for text tables (.csv, .tsv), not for {path}.")


def read_parquet(path: Path) -> FrameTable:
    """Read a Parquet file.

    Raises
    ------
    DataError
        If the file is damaged or empty.
    """
    if not path.is_file():
        raise DataError(f"{path} does not exist or is not a file; expected a table.")
    pandas = import_optional("pandas")
    import_optional("pyarrow")
    try:
        frame = pandas.read_parquet(path, engine="pyarrow", dtype_backend="numpy_nullable")
    except Exception as error:  # pyarrow raises many types of exceptions for damaged files
        raise DataError(f"{path} cannot be read as Parquet: {first_line_of(error)}.") from error
    if not len(frame) or not len(frame.columns):
        raise DataError(
            f"{path} has {len(frame)} rows and {len(frame.columns)} columns; expected at least one of each."
        )
    return FrameTable(frame, str(path))


def read_numbers(path: Path, given: TextFormat, width: int | None) -> np.ndarray:
    """Read a text table of numbers without pandas; a first line without numbers is skipped as a header.

    Parameters
    ----------
    path : Path
    given : TextFormat
        Options of the caller, which are not detected.
    width : int or None
        Expected number of fields of a line.

    Returns
    -------
    ndarray of float64, shape (rows, width)

    Raises
    ------
    DataError
        If a cell is not a number, or a line has another number of fields.
    """
    file = TextFile(path, given)
    assert file.format.separator is not None and file.format.decimal is not None
    named = file.format.header
    rows = []
    for place, (line, fields) in enumerate(read_records(path, file.format.separator)):
        if place == 0:
            wordy = given.header is None and not any(is_number(field, file.format.decimal) for field in fields)
            named = named or wordy
            file.report(header=not wordy)
            if named:
                continue
        odd = next((field for field in fields if not is_number(field, file.format.decimal)), None)
        if odd is not None:
            raise DataError(f"{path}, line {line}: {odd[:40]!r} is not a number; expected numbers.")
        if len(fields) != width:
            raise DataError(f"{path}, line {line} has {len(fields)} numbers, expected {width}.")
        rows.append([float(field.replace(file.format.decimal, ".")) for field in fields])
    if not rows:
        raise DataError(f"{path} has no rows of numbers; expected at least one.")
    return np.array(rows, np.float64).reshape(len(rows), width or 0)


def first_line_of(error: Exception) -> str:
    """Return the first line of an error's message, without its final full stop."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:200].rstrip(".")
