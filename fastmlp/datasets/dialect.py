"""Detection of a text table's format: separator, decimal mark, header."""

from __future__ import annotations

import csv
import itertools
import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NamedTuple

from .._common.errors import DataError

__all__ = [
    "MISSING",
    "SEPARATORS",
    "UNKNOWN_FORMAT",
    "TextFormat",
    "validate_format",
    "detect_format",
    "is_number",
    "non_numeric",
    "read_records",
]

SEPARATORS = {".csv": ",", ".tsv": "\t"}
# Texts of missing values: pandas' list, copied so that it does not depend on the version of pandas.
MISSING = frozenset(
    "#N/A|#N/A N/A|#NA|-1.#IND|-1.#QNAN|-NaN|-nan|1.#IND|1.#QNAN|<NA>|N/A|NA|NULL|NaN|None|n/a|nan|null|".split("|")
)
_NUMBER = {
    ".": re.compile(r"[+-]?((\d+(\.\d*)?|\.\d+)(e[+-]?\d+)?|inf(inity)?)", re.I | re.A),
    ",": re.compile(r"[+-]?((\d+(,\d*)?|,\d+)(e[+-]?\d+)?|inf(inity)?)", re.I | re.A),
}
_FRACTION = {
    ".": re.compile(r"[+-]?\d*\.\d+(e[+-]?\d+)?", re.I | re.A),
    ",": re.compile(r"[+-]?\d*,\d+(e[+-]?\d+)?", re.I | re.A),
}
_WHOLE = re.compile(r"\d+", re.A)
# Most lines and cells that are read to detect a format; least lines below a first line of whole numbers to compare.
_MOST_LINES, _MOST_CELLS, _FEW = 1000, 50_000, 5


class TextFormat(NamedTuple):
    """Format of a text table; None for unknown entries.

    Attributes
    ----------
    header : bool or None
        Whether the first line names the columns.
    separator : str or None
        Character between two fields.
    decimal : {".", ","} or None
        Decimal mark of numbers.
    """

    header: bool | None = None
    separator: str | None = None
    decimal: str | None = None


UNKNOWN_FORMAT = TextFormat()


def validate_format(header: bool | None = None, separator: str | None = None, decimal: str | None = None) -> TextFormat:
    """Return the caller's options as a `TextFormat`.

    Raises
    ------
    DataError
        If an option has an invalid value.
    """
    if not isinstance(header, (bool, type(None))):
        raise DataError(f"header is {header!r}; expected True, False or None.")
    if separator is not None and (not isinstance(separator, str) or len(separator) != 1 or separator in '"\r\n'):
        raise DataError(f"separator is {separator!r}; expected one character, such as ';'.")
    if decimal not in (None, ".", ","):
        raise DataError(f"decimal is {decimal!r}; expected '.' or ','.")
    return TextFormat(header, separator, decimal)


def is_number(field: str, decimal: str = ".") -> bool:
    """Whether a text is a finite number or an infinity."""
    return _NUMBER[decimal].fullmatch(field.strip()) is not None


def non_numeric(texts: Collection[str]) -> list[str]:
    """Return the texts that are not numbers if they are the minority, else an empty list."""
    odd = [text for text in texts if not is_number(text)]
    return odd if len(odd) < len(texts) / 2 else []


def read_records(path: Path, separator: str) -> Iterator[tuple[int, list[str]]]:
    """Yield (line number, fields) of each line that is not empty.

    Raises
    ------
    DataError
        If the file cannot be read, is not UTF-8, or has an unterminated quote.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.reader(stream, delimiter=separator, skipinitialspace=True, strict=True)
            for fields in reader:
                if fields:
                    yield reader.line_num, fields
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text (byte {error.start}); expected a text table.") from error
    except (csv.Error, OSError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise DataError(f"{path} cannot be read as a table: {str(reason)[:200].rstrip('.')}.") from error


def detect_format(path: Path, given: TextFormat, likely: TextFormat) -> tuple[TextFormat, dict[str, str]]:
    """Detect the format of a text table from its first lines.

    Parameters
    ----------
    path : Path
        A file that ends in .csv or .tsv.
    given : TextFormat
        Options of the caller, which are not detected.
    likely : TextFormat
        Format of the training file. Its header is used; its separator and decimal mark decide ambiguous cases.

    Returns
    -------
    format : TextFormat
        Without unknown entries.
    guesses : dict of str to str
        For each uncertain entry a phrase that names the choice and the argument that overrides it.

    Raises
    ------
    DataError
        If the file is empty or not a text file.
    """
    usual = SEPARATORS[path.suffix.lower()]
    separator, decimal, rows = _split(path, given, likely, usual)
    if not rows or not any(field.strip() for field in rows[0]):
        raise DataError(f"{path} is empty; expected a line of column names and rows.")
    guesses = {}
    if given.separator is None and separator not in (usual, likely.separator):
        shown = "a tab" if separator == "\t" else repr(separator)
        guesses["separator"] = f"fields are separated by {shown} (separator= chooses another character)"
    if given.decimal is None and decimal == "," and likely.decimal != ",":
        guesses["decimal"] = "numbers have a decimal comma (decimal='.' reads points)"
    header = likely.header if given.header is None else given.header
    if header is None:
        # `TextFile` reports lines of another length.
        header, sure = _has_names([fields for fields in rows if len(fields) == len(rows[0])], decimal)
        if not sure:
            other = "header=False reads it as a row" if header else "header=True reads it as column names"
            guesses["header"] = f"the first line is taken for {'column names' if header else 'a row'} ({other})"
    return TextFormat(header, separator, decimal), guesses


def _split(path: Path, given: TextFormat, likely: TextFormat, usual: str) -> tuple[str, str, list[list[str]]]:
    """Return (separator, decimal mark, first lines) for the separator with the largest share of numbers.

    A candidate must split all lines into the same number of fields, at least two. Without a candidate the result is the
    usual separator.
    """
    candidates = (likely.separator, usual, ";", "\t", "|", ",") if given.separator is None else (given.separator,)
    best: tuple[float, str, str, list[list[str]]] | None = None
    for separator in dict.fromkeys(candidate for candidate in candidates if candidate):
        try:
            rows = _first_lines(path, separator)
        except DataError:  # a quote inside of a field with this separator, or damage, which is reported below
            continue
        decimal = given.decimal or _decimal_mark(rows, separator, likely.decimal)
        if not rows or len(rows[0]) < 2 or any(len(fields) != len(rows[0]) for fields in rows):
            continue
        cells = [field.strip() for fields in rows for field in fields]
        share = sum(cell in MISSING or is_number(cell, decimal) for cell in cells) / len(cells)
        if best is None or share > best[0]:
            best = share, separator, decimal, rows
    if best is not None:
        return best[1:]
    separator = given.separator or usual
    rows = _first_lines(path, separator)
    return separator, given.decimal or _decimal_mark(rows, separator, likely.decimal), rows


def _first_lines(path: Path, separator: str) -> list[list[str]]:
    rows = [fields for _, fields in itertools.islice(read_records(path, separator), _MOST_LINES)]
    return rows[: max(_FEW + 1, _MOST_CELLS // len(rows[0]))] if rows else rows


def _decimal_mark(rows: list[list[str]], separator: str, likely: str | None) -> str:
    """Return the decimal mark that more cells contain."""
    if separator == ",":
        return "."
    cells = [field.strip() for fields in rows for field in fields]
    points, commas = (sum(_FRACTION[mark].fullmatch(cell) is not None for cell in cells) for mark in ".,")
    return (likely or ".") if points == commas else "," if commas > points else "."


def _has_names(rows: list[list[str]], decimal: str) -> tuple[bool, bool]:
    """Return whether the first line names the columns, and whether the evidence is unanimous.

    The columns vote, see `_vote`. Without a majority a first line of numbers only is a row.
    """
    first = [field.strip() for field in rows[0]]
    numbers = [is_number(field, decimal) for field in first]
    plain = all(number for field, number in zip(first, numbers, strict=True) if field not in _GAPS)
    if len(rows) == 1:
        return not plain, True
    columns = [
        [cell for fields in rows[1:] if (cell := fields[place].strip()) not in _GAPS] for place in range(len(first))
    ]
    counted = _is_count([int(field) for field in first if _WHOLE.fullmatch(field)], first, columns, decimal)
    votes = [
        _vote(field, column, decimal, counted, first_place=place == 0)
        for place, (field, column) in enumerate(zip(first, columns, strict=True))
    ]
    yes, no = votes.count(1), votes.count(-1)
    if yes == no:
        return not plain, plain and yes == 0 and all(numbers)
    if yes > no:
        return True, no == 0 and not plain
    return False, yes == 0 and all(numbers)


_GAPS = MISSING | {"?", "-", "."}


def _vote(field: str, column: list[str], decimal: str, counted: bool, *, first_place: bool) -> int:
    """Compare a field of the first line with the values below it: 1 for a name, -1 for a value, 0 if undecided.

    A name is a text above numbers, a text above categories that does not occur among them, or a whole number above
    fractions. A value is a gap, a text that occurs again, or a number in the range of the values.
    """
    if not column or (first_place and not field):  # a column of row labels has no name
        return 0
    if field in _GAPS:
        return -1
    values = [_value(cell, decimal) for cell in column if is_number(cell, decimal)]
    of_numbers = len(values) > len(column) / 2
    if not is_number(field, decimal):
        if field in column:
            return -1
        return int(of_numbers or len(set(column)) <= len(column) / 2)
    if not of_numbers:
        return 0
    if _WHOLE.fullmatch(field) and (
        counted or (len(column) >= _FEW and not any(_WHOLE.fullmatch(cell.lstrip("+-")) for cell in column))
    ):
        return 1
    return -int(min(values) <= _value(field, decimal) <= max(values))


def _is_count(whole: list[int], first: list[str], columns: list[list[str]], decimal: str) -> bool:
    """Whether the first line is a sequence of consecutive integers: 0, 1, 2, ... (pandas' default names) or years."""
    if len(whole) < 3 or len(whole) < len(first) - 1 or whole != list(range(whole[0], whole[0] + len(whole))):
        return False
    if whole[0] == 0:
        return True
    for field, column in zip(first, columns, strict=True):
        values = [_value(cell, decimal) for cell in column if is_number(cell, decimal)]
        if values and is_number(field, decimal) and min(values) <= _value(field, decimal) <= max(values):
            return False
    return True


def _value(field: str, decimal: str) -> float:
    return float(field.replace(",", ".") if decimal == "," else field)
