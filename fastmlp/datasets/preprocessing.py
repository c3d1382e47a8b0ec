"""Encoding of a table's columns as a matrix: medians for missing numbers, one-hot columns for categories."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path
from typing import Any, Literal

import numpy as np

from .._common.errors import DataError
from ..io.array_files import ARRAY_SUFFIXES, read_npy, read_npz
from .categories import UnknownValues, find_categories, parse_bool
from .columns import ArrayTable, Column, FrameTable, Table
from .dialect import UNKNOWN_FORMAT, TextFormat, is_number, validate_format
from .fitting import check_finite
from .table_files import FRAME_SUFFIXES, TextFile, is_text_file, read_parquet, reject_format

__all__ = [
    "apply_preprocessing", "encode", "encode_new", "encoded_names", "encoded_width", "format_of", "match_columns",
    "text_columns",
]  # fmt: skip


def apply_preprocessing(
    frame_or_path: Any,
    preprocessing: dict[str, Any],
    *,
    header: bool | None = None,
    separator: str | None = None,
    decimal: Literal[".", ","] | None = None,
) -> np.ndarray:
    """Encode new rows like the training data of a model.

    Columns are matched by name, and other columns (such as the target) are ignored. If the training file or the new one
    has no column names, columns are matched by position, with or without the target. Missing numbers are replaced by
    the median of the training part. Texts are compared without surrounding spaces. If the categories are two booleans,
    ``true``, ``t``, ``yes``, ``y``, ``on``, ``1`` and their opposites match them in any case. A category that is absent
    from the training data gives zeros in all columns of its feature.

    Parameters
    ----------
    frame_or_path : pandas.DataFrame, ndarray of shape (N, columns), or path-like
        New rows, or a .csv, .tsv, .parquet, .npy or .npz (key ``X``) file of them.
    preprocessing : dict
        `Dataset.preprocessing` of the training data, also after a round trip through JSON.
    header, separator, decimal
        Format of a text file, see `load`. The default of ``header`` is that of the training file; separator and decimal
        mark are detected.

    Returns
    -------
    ndarray of shape (N, features)
        In the dtype of the training data, float32 or float64.

    Warns
    -----
    DataWarning
        If a column has categories that are absent from the training data; the message gives their share and examples.

    Raises
    ------
    DataError
        If a column is missing, if its values differ in kind from the training data (texts for numbers, infinities,
        nearly only unknown categories), or if ``preprocessing`` is not such a record.

    Examples
    --------
    >>> data = load("people.csv")  # doctest: +SKIP
    >>> X = apply_preprocessing("more_people.csv", data.preprocessing)  # doctest: +SKIP
    """
    given = validate_format(header, separator, decimal)
    texts = text_columns(preprocessing)
    return encode_new(_open(frame_or_path, given, format_of(preprocessing), texts), preprocessing)


def text_columns(preprocessing: dict[str, Any] | None) -> list[str]:
    """Return the names of the feature columns that were read as texts in training."""
    if preprocessing is None:
        return []
    try:
        return [spec["name"] for spec in preprocessing["columns"] if spec.get("text")]
    except (KeyError, TypeError, AttributeError) as error:
        raise _no_record(error) from error


def format_of(preprocessing: dict[str, Any] | None) -> TextFormat:
    """Return the format of the training file as the expected format of new files; arrays give no header."""
    if preprocessing is None:
        return UNKNOWN_FORMAT
    try:
        separator, header = preprocessing.get("separator"), bool(preprocessing["header"])
        return TextFormat(header if header or separator else None, separator, preprocessing.get("decimal"))
    except (KeyError, TypeError, AttributeError) as error:
        raise _no_record(error) from error


def encode_new(
    table: Table, preprocessing: dict[str, Any], *, strict: bool = True, unknown: UnknownValues | None = None
) -> np.ndarray:
    """Encode the rows of an open table as `apply_preprocessing` does; ``strict`` and ``unknown`` as for `encode`."""
    try:
        specs = list(preprocessing["columns"])
        dtype = np.dtype(preprocessing["dtype"])
        widths = [encoded_width(spec) for spec in specs]
        specs = [{**s, "median": float(s["median"])} if s["kind"] == "numeric" else s for s in specs]
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise _no_record(error) from error
    position = match_columns(table, preprocessing)
    specs = [{**spec, "at": position[spec["name"]]} for spec in specs]
    return encode(table, specs, sum(widths), dtype, strict=strict, unknown=unknown)


def match_columns(table: Table, record: dict[str, Any]) -> dict[str, str]:
    """Return the name in a table of each feature of a record.

    Columns are matched by name, or by position if the training file or this one has no names.

    Raises
    ------
    DataError
        If a column is missing, or ``record`` is not one of a table.
    """
    try:
        wanted = [spec["name"] for spec in record["columns"]]
        named, every, target = bool(record["header"]), list(record["all_columns"]), record["target"]
    except (KeyError, TypeError, AttributeError) as error:
        raise _no_record(error) from error
    unnamed = table.header is False or isinstance(table, ArrayTable)
    if unnamed or not (named or set(wanted) <= set(table.names)):
        bare = [name for name in every if name != target]
        names = next((names for names in (every, bare) if len(names) == len(table.names)), None)
        if names is None:
            raise DataError(
                f"{table.source} has {len(table.names)} columns, expected {len(bare)} "
                f"(or {len(every)} with the target) as in training."
            )
        position = dict(zip(names, table.names, strict=True))
    else:
        position = {name: name for name in table.names}
    absent = [name for name in wanted if name not in position]
    if absent:
        # Numeric names may be a row of values.
        is_row = table.header and any(map(is_number, table.names))
        hint = "; header=False reads its first line as a row" if is_row else ""
        raise DataError(f"{table.source} lacks the column {absent[0]!r}; it has {_join_names(table.names)}{hint}.")
    return {name: position[name] for name in wanted}


def _no_record(error: Exception) -> DataError:
    return DataError(
        f"preprocessing is not a record of a table ({type(error).__name__} {error}); expected Dataset.preprocessing."
    )


def _open(frame_or_path: Any, given: TextFormat, likely: TextFormat, texts: list[str]) -> Table:
    if isinstance(frame_or_path, (str, os.PathLike)):
        path = Path(os.path.expanduser(frame_or_path))
        reject_format(path, given)
        suffix = path.suffix.lower()
        if suffix in ARRAY_SUFFIXES:
            arrays = read_npz(path, ("X",)) if suffix == ".npz" else {"X": read_npy(path)}
            if "X" not in arrays:
                raise DataError(f"{path} has no array X; expected the rows under this key.")
            X = arrays["X"]
            return ArrayTable(X.reshape(len(X), -1) if X.ndim > 1 else X[:, None], str(path))
        if is_text_file(path):
            return TextFile(path, given, likely).read(texts)
        if suffix in FRAME_SUFFIXES:
            return read_parquet(path)
        raise DataError(
            f"{path} is not a table; expected a name that ends in {_join_names(FRAME_SUFFIXES + ARRAY_SUFFIXES)}."
        )
    if given != UNKNOWN_FORMAT:
        raise DataError("header, separator and decimal are for text files; expected none of them with rows in memory.")
    if hasattr(frame_or_path, "iloc") and hasattr(frame_or_path, "columns"):
        return FrameTable(frame_or_path, "The frame")
    if isinstance(frame_or_path, np.ndarray):
        if frame_or_path.ndim != 2:
            raise DataError(f"The array has shape {frame_or_path.shape}, expected (N, columns).")
        return ArrayTable(frame_or_path, "The array")
    raise DataError(f"New rows are of type {type(frame_or_path).__name__}; expected a frame or a path.")


def encode(
    table: Table,
    specs: list[dict[str, Any]],
    width: int | None,
    dtype: np.dtype[Any],
    *,
    strict: bool = True,
    unknown: UnknownValues | None = None,
) -> np.ndarray:
    """Encode a table by the records of its columns.

    Parameters
    ----------
    table : Table
    specs : list of dict
        Records of `fit_columns`. An entry ``at`` gives the name of the column in this table if it differs.
    width : int or None
        Number of features; None to count them.
    dtype : dtype
        float32 or float64.
    strict : bool
        Whether a column with nearly only unknown categories is an error instead of a warning.
    unknown : UnknownValues, optional
        Collects the unknown categories of several tables; the caller reports them.

    Returns
    -------
    ndarray of shape (len(table), width)

    Raises
    ------
    DataError
        If a column of numbers holds text, an infinity, or a number too large for `dtype`.
    """
    plain = _encode_plain(table, specs, dtype)
    if plain is not None:
        return plain
    out = np.zeros((len(table), width if width is not None else sum(map(encoded_width, specs))), dtype)
    found = UnknownValues(table.source, strict) if unknown is None else unknown
    start = 0
    for spec in specs:
        column = table.column(spec.get("at", spec["name"]))
        if spec["kind"] == "numeric":
            out[:, start] = _numbers(column, spec, dtype, table.header)
        else:
            categories, texts = spec["categories"], column.texts()
            places = find_categories(texts, categories)
            if spec["missing"]:
                places[column.missing()] = len(categories)
            known = places >= 0
            found.add(column.label, spec["name"], texts, known, categories)
            rows = np.flatnonzero(known)
            out[rows, start + places[rows]] = 1
        start += encoded_width(spec)
    if unknown is None:
        found.report()
    return out


def _encode_plain(table: Table, specs: list[dict[str, Any]], dtype: np.dtype[Any]) -> np.ndarray | None:
    """Encode all columns of a matrix at once, if they are finite numbers without an offset; None for other tables."""
    if not isinstance(table, ArrayTable) or table.matrix.dtype.kind != "f":
        return None
    names = [str(spec.get("at", spec["name"])) for spec in specs]
    if names != table.names or any(spec["kind"] != "numeric" or spec.get("offset") for spec in specs):
        return None
    matrix = table.matrix
    gaps = np.isnan(matrix)
    if gaps.any():
        matrix = np.where(gaps, np.array([spec["median"] for spec in specs]), matrix)
    if matrix.size and not float(np.abs(matrix).max()) <= float(np.finfo(dtype).max):
        return None
    return np.ascontiguousarray(matrix, dtype)


def encoded_names(specs: list[dict[str, Any]]) -> tuple[str, ...]:
    """Return the feature names: ``column``, ``column=category`` or ``column=<missing>``."""
    names: list[str] = []
    for spec in specs:
        if spec["kind"] == "numeric":
            names.append(spec["name"])
        else:
            names += [f"{spec['name']}={category}" for category in spec["categories"]]
            names += [f"{spec['name']}=<missing>"] * spec["missing"]
    return tuple(names)


def encoded_width(spec: dict[str, Any]) -> int:
    """Return the number of features of a column."""
    return 1 if spec["kind"] == "numeric" else len(spec["categories"]) + bool(spec["missing"])


def _numbers(column: Column, spec: dict[str, Any], dtype: np.dtype[Any], header: bool | None) -> np.ndarray:
    """Return a numeric column minus its offset in ``dtype``, with missing values replaced."""
    offset = spec.get("offset", 0)
    if column.kind in ("bool", "text"):
        numbers = _truths(column, spec.get("binary", False), header)
    else:
        check_finite(column)
        numbers = column.numbers(offset)
    # The offset is the median, so that the median of the centered column is 0.
    values = np.where(np.isnan(numbers), 0.0 if offset else spec["median"], numbers)
    largest = float(np.finfo(dtype).max)
    if len(values) and np.abs(values).max() > largest:
        seen = values[np.abs(values).argmax()]
        raise DataError(f"{column.label} holds {seen:g}, too large for {dtype} as in training; scale the column.")
    return values.astype(dtype)


def _truths(column: Column, binary: bool, header: bool | None) -> np.ndarray:
    """Convert booleans to 0 and 1, if the training data had no other numbers."""
    texts = column.texts()
    odd = next(
        (i for i, text in enumerate(texts) if text is not None and (not binary or parse_bool(text) is None)), None
    )
    if odd is not None:
        first_alone = header is False and odd == 0
        hint = "; header=True reads the first line as column names" if first_alone else ""
        raise DataError(f"{column.label} holds {str(texts[odd])[:40]!r}, expected numbers as in training{hint}.")
    return np.array([np.nan if text is None else parse_bool(text) for text in texts], np.float64)


def _join_names(names: Collection[str]) -> str:
    shown = ", ".join(list(names)[:20])
    return shown + (", ..." if len(names) > 20 else "")
