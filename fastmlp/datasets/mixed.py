"""Tables of mixed columns as data frames, for estimators that encode the columns themselves."""

from __future__ import annotations

import datetime
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .._common.errors import DataError
from .chunks import ChunkedTable
from .columns import FrameTable, Table, import_optional
from .dataset import Task
from .dialect import non_numeric, validate_format
from .evaluation import choose_target, is_text_target
from .features import choose_features
from .preprocessing import format_of, match_columns, text_columns
from .shards import files_of
from .table import require_memory
from .table_files import FRAME_SUFFIXES
from .target import check_target, class_indices, regression_targets
from .train_test import read_train_test

__all__ = ["MixedTable", "has_mixed_columns", "iterate_frames", "load_mixed"]

_ISO_DATE = re.compile(r"\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2}(\.\d{1,9})?)?(Z|[+-]\d{2}:?\d{2})?)?")
_MOST_LEVELS = 1000  # texts beyond which a column of mostly numbers is an error
_DATE_EXAMPLE = "2024-01-31 or 2024-01-31 12:00"


class MixedTable(NamedTuple):
    """Training and test part of a table, whose features are data frames.

    Attributes
    ----------
    name : str
        Name of the file.
    task : {"classification", "regression"}
    classes : tuple of str or None
        Labels; None for regression.
    X, X_test : pandas.DataFrame
        Features.
    y, y_test : ndarray
        Labels as texts, or numbers in float64.
    record : dict
        JSON-able description of the file, with which `iterate_frames` reads others like it: its format, ``columns``
        (for each feature its ``name``, and whether it is ``text`` or ``date``), ``all_columns`` and ``target``.
    """

    name: str
    task: Task
    classes: tuple[str, ...] | None
    X: Any
    y: np.ndarray
    X_test: Any
    y_test: np.ndarray
    record: dict[str, Any]


def has_mixed_columns(path: Path) -> bool:
    """Return whether a table, or each table of a folder, is of a kind that has columns of different types."""
    files = files_of(path) if path.is_dir() else [path]
    return files[0].suffix.lower() in FRAME_SUFFIXES


def load_mixed(
    path: Path,
    *,
    record: dict[str, Any] | None = None,
    drop: Sequence[str | int] = (),
    index: bool | None = None,
    **reading: Any,
) -> MixedTable:
    """Read a .csv, .tsv or .parquet table, and split it unless it has a test part.

    Texts that are all dates in the form of ISO 8601 become dates, those with a time zone in UTC.

    Parameters
    ----------
    path : Path
    record : dict, optional
        Record of the training, to read the table of a trained model again.
    drop, index
        See `load`. Not used with ``record``.
    **reading
        See `read_train_test`.

    Returns
    -------
    MixedTable

    Raises
    ------
    DataError
        If a file is damaged or an option does not fit it.
    """
    require_memory(path)
    split = read_train_test(path, **reading, to_train=record is None)
    source = split.source
    if record is None:
        names, _ = choose_features(source, source.table.names, "auto", drop, index)
        record = _describe(split.train.table, names, source)
    frames = [_as_trained(part.table, record) for part in (split.train, split.test)]
    targets = [_targets(part.target_column, split.classes) for part in (split.train, split.test)]
    return MixedTable(path.name, split.task, split.classes, frames[0], targets[0], frames[1], targets[1], record)


def iterate_frames(
    file: str | os.PathLike[str],
    record: dict[str, Any],
    classes: Sequence[str] | None = None,
    *,
    labeled: bool,
    target: str | None = None,
    header: bool | None = None,
    separator: str | None = None,
    decimal: str | None = None,
) -> Iterator[tuple[Any, np.ndarray | None]]:
    """Read a table in chunks of rows, with the columns of a trained model.

    Parameters
    ----------
    file : path-like
        A table, or a folder of tables.
    record : dict
        See `MixedTable`.
    classes : sequence of str or None
        Labels of the model; None for regression.
    labeled : bool
        Whether to read the targets.
    target, header, separator, decimal
        See `load_labeled`.

    Yields
    ------
    X : pandas.DataFrame
    y : ndarray or None
        As in `MixedTable`; None if not ``labeled``.

    Raises
    ------
    DataError
        If the file is damaged, lacks a column, or has a label that is not in ``classes``.
    """
    path = Path(os.path.expanduser(file))
    given, likely = validate_format(header, separator, decimal), format_of(record)
    choice = choose_target(target, record, likely.header, header) if labeled else None
    table = ChunkedTable(path, choice, given, likely, labeled=labeled)
    table = table.test_part or table
    table.texts.update(text_columns(record))
    if labeled and is_text_target(classes) and table.target_name is not None:
        table.texts.add(table.target_name)
    seen = 0
    for chunk in table:
        rows = _as_trained(chunk.table, record)
        seen += len(rows)
        if len(rows):
            yield rows, None if chunk.target is None else _targets(chunk.target, classes)
    if not seen:
        raise DataError(f"{path} has no rows; expected at least one.")


def _describe(table: Table, names: list[str], source: Any) -> dict[str, Any]:
    """Return the record of a training table with the features ``names``."""
    if not isinstance(table, FrameTable):
        raise DataError(f"{source.path} has no columns of its own types; expected {', '.join(FRAME_SUFFIXES)}.")
    columns = []
    for name in names:
        series = table.frame.iloc[:, table.names.index(name)]
        texts = _distinct_texts(series)
        odd = non_numeric(texts) if len(texts) > _MOST_LEVELS else []
        if odd:
            raise DataError(
                f"{table.source}: column {name!r} has values that are not numbers, such as {min(odd)[:40]!r}; expected "
                "numbers only."
            )
        is_date = _parse_dates(texts) is not None if texts else _holds_dates(series)
        columns.append({"name": name, "text": bool(texts), "date": is_date})
    return {
        "columns": columns, "all_columns": list(source.table.names), "target": source.target_name,
        **source.format._asdict(),
    }  # fmt: skip


def _as_trained(table: Table, record: dict[str, Any]) -> Any:
    """Return the features of a table as a frame, with the names of the training."""
    pandas, position = import_optional("pandas"), match_columns(table, record)
    frame = table.frame if isinstance(table, FrameTable) else pandas.DataFrame(table.matrix, columns=table.names)  # type: ignore[attr-defined]
    places = [table.names.index(name) for name in position.values()]
    frame = frame.iloc[:, places].set_axis(list(position), axis=1)
    for spec in record["columns"]:
        if spec["date"]:
            frame[spec["name"]] = _dates(frame[spec["name"]], f"{table.source}: column {position[spec['name']]!r}")
    return frame


def _dates(series: Any, label: str) -> Any:
    """Return a column of texts as dates."""
    pandas = import_optional("pandas")
    if pandas.api.types.is_datetime64_any_dtype(series.dtype):
        return series
    distinct = [str(one) for one in series.dropna().unique().tolist()]
    dates = _parse_dates(distinct)
    if dates is None:
        odd = next((one for one in distinct if _parse_dates([one]) is None), distinct[0])
        raise DataError(f"{label} holds {odd[:40]!r}; expected dates such as {_DATE_EXAMPLE}, as in training.")
    known = dict(zip(series.dropna().unique().tolist(), dates, strict=True))
    return series.map(known).astype("datetime64[s]")


def _parse_dates(texts: list[str]) -> list[Any] | None:
    """Return the dates that texts stand for; None if one of them is no date of ISO 8601."""
    pandas = import_optional("pandas")
    if not all(_ISO_DATE.fullmatch(text) for text in texts):
        return None
    found = pandas.to_datetime(pandas.Series(texts, dtype=object), format="ISO8601", errors="coerce", utc=True)
    return None if found.isna().any() else list(found.dt.tz_localize(None))


def _holds_dates(series: Any) -> bool:
    """Return whether a column without texts holds points in time, or dates as Parquet has them."""
    if getattr(series.dtype, "kind", "O") == "M":
        return True
    known = series.dropna()
    return known.dtype == object and len(known) > 0 and all(isinstance(one, datetime.date) for one in known)


def _distinct_texts(series: Any) -> list[str]:
    """Return the distinct texts of a column of texts; empty for a column of other kinds."""
    distinct = series.dropna()
    if getattr(distinct.dtype, "kind", "O") != "O":
        return []
    try:
        values = distinct.unique().tolist()
    except TypeError:  # lists, which the encoder refuses
        return []
    return values if values and all(isinstance(value, str) for value in values) else []


def _targets(column: Any, classes: Sequence[str] | None) -> np.ndarray:
    check_target(column, regression=classes is None)
    if classes is None:
        return regression_targets(column).astype(np.float64)
    labels: np.ndarray = np.array(classes)[class_indices(column, classes)]
    return labels
