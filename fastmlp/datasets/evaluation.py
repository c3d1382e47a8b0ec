"""Readers of tables for the evaluation of a trained model, encoded like its training data."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .._common.errors import DataError
from .categories import UnknownValues
from .chunks import ChunkedTable
from .columns import ArrayTable, Column, Table, join_columns
from .dataset import Dataset, Task
from .dialect import is_number, validate_format
from .fitting import check_finite
from .pack_cache import cache_folder, is_large
from .preprocessing import encode_new, format_of, text_columns
from .row_file import map_rows
from .source import TableSource
from .target import check_target, class_indices, regression_targets
from .train_test import read_train_test

__all__ = ["choose_target", "is_text_target", "load_as_trained", "load_labeled", "load_rows"]


def load_labeled(
    file: str | os.PathLike[str],
    *,
    classes: Sequence[str] | None,
    preprocessing: dict[str, Any] | None,
    target: str | None = None,
    header: bool | None = None,
    separator: str | None = None,
    decimal: str | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Read all rows of a table in the encoding of a trained model.

    Of an ``.npz`` file with a test part, only the test part is read.

    Parameters
    ----------
    file : path-like
    classes : sequence of str or None
        Labels of the model in the order of its outputs; None for regression.
    preprocessing : dict or None
        Record of the model's training table. None: all columns except the target are numeric features.
    target : str, optional
        Name or index of the target column, or the file of the targets for a ``.npy`` file. Default: the column of the
        training target, else the last one.
    header, separator, decimal
        See `load`. The default of ``header`` is that of the training file.

    Returns
    -------
    X : ndarray of shape (N, features)
    y : ndarray of shape (N,)
        Indices into ``classes``, or numbers minus the record's ``target_offset``.

    Raises
    ------
    DataError
        If the file is damaged, does not fit the record, or has a label that is not in ``classes``.
    """
    path = Path(os.path.expanduser(file))
    given, likely = validate_format(header, separator, decimal), format_of(preprocessing)
    choice = choose_target(target, preprocessing, likely.header, header)
    text_target = is_text_target(classes)
    if is_large(path):
        chunked = ChunkedTable(path, choice, given, likely)
        chunked.texts.update(text_columns(preprocessing))
        if text_target and chunked.target_name is not None:
            chunked.texts.add(chunked.target_name)
        X, target_column = _encode_in_chunks(chunked, preprocessing)
        assert target_column is not None
        return X, _encode_target(target_column, classes, preprocessing)
    source = TableSource(path, choice, given, likely, text_columns(preprocessing), text_target)
    table, target_column = source.test_part or (source.table, source.target_column)
    return _encode(table, target_column, source.target_name, classes, preprocessing)


def choose_target(
    target: str | None, record: dict[str, Any] | None, trained_header: bool | None, header: bool | None
) -> str | int | None:
    """Return the target column of a new file: that of the option, or that of the training, by name or position."""
    if target is not None or record is None:
        return target
    choice: str | int | None = record.get("target")
    named = trained_header if header is None else header
    if choice is not None and not (named and trained_header):
        choice = int(record["all_columns"].index(choice))
    return choice


def is_text_target(classes: Sequence[str] | None) -> bool:
    """Return whether labels have to be read as texts, since they would change as numbers or booleans."""
    return classes is not None and not all(map(_is_read_back, classes))


def load_as_trained(
    path: Path, *, classes: Sequence[str] | None, preprocessing: dict[str, Any] | None, **reading: Any
) -> Dataset:
    """Read the training table of a model again, in the encoding of the model.

    Parameters
    ----------
    path : Path
    classes, preprocessing
        See `load_labeled`.
    **reading
        Options of `read_train_test`, as in training.

    Returns
    -------
    Dataset
        The arrays of the training, if the file is unchanged.

    Raises
    ------
    DataError
        As `load_labeled`.
    """
    task: Task = "regression" if classes is None else "classification"
    split = read_train_test(path, **{**reading, "task": task}, to_train=False)
    strict = split.separate_test
    arrays = [
        array
        for part in (split.train, split.test)
        for array in _encode(*part, split.source.target_name, classes, preprocessing, strict=strict)
    ]
    return Dataset(*arrays, name=path.name, task=task, classes=None if classes is None else tuple(classes))


def load_rows(
    path: Path,
    preprocessing: dict[str, Any] | None,
    *,
    header: bool | None = None,
    separator: str | None = None,
    decimal: str | None = None,
) -> np.ndarray:
    """Read the features of a large table, see `is_large`, in the encoding of a trained model.

    Parameters
    ----------
    path : Path
    preprocessing, header, separator, decimal
        See `load_labeled`.

    Returns
    -------
    ndarray of shape (N, features)
        In a mapped file.

    Raises
    ------
    DataError
        As `load_labeled`.
    """
    given = validate_format(header, separator, decimal)
    table = ChunkedTable(path, None, given, format_of(preprocessing), labeled=False)
    table.texts.update(text_columns(preprocessing))
    return _encode_in_chunks(table, preprocessing)[0]


def _encode_in_chunks(table: ChunkedTable, preprocessing: dict[str, Any] | None) -> tuple[np.ndarray, Column | None]:
    """Return the features, in a mapped file, and the target of all rows."""
    unknown, targets = UnknownValues(str(table.path), True), []

    def features() -> Iterator[np.ndarray]:
        for chunk in table:
            if chunk.target is not None:
                targets.append(chunk.target)
            yield _encode_features(chunk.table, table.target_name, preprocessing, unknown=unknown)

    X = map_rows(features(), cache_folder(), str(table.path), table.matrix)
    unknown.report()
    return X, join_columns(targets) if targets else None


def _encode(
    table: Table,
    target_column: Column,
    target: str | None,
    classes: Sequence[str] | None,
    preprocessing: dict[str, Any] | None,
    *,
    strict: bool = True,
) -> tuple[np.ndarray, np.ndarray]:
    # Encode the features first: if the header was misjudged, their errors are clearer than those of the target.
    X = _encode_features(table, target, preprocessing, strict=strict)
    return X, _encode_target(target_column, classes, preprocessing)


def _encode_features(
    table: Table,
    target: str | None,
    preprocessing: dict[str, Any] | None,
    *,
    strict: bool = True,
    unknown: UnknownValues | None = None,
) -> np.ndarray:
    if target is not None and (preprocessing is None or preprocessing.get("target") is None):
        table = table.without(target)  # the model was trained on arrays
    if preprocessing is None:
        return _plain_numbers(table)
    return encode_new(table, preprocessing, strict=strict, unknown=unknown)


def _encode_target(
    target_column: Column, classes: Sequence[str] | None, preprocessing: dict[str, Any] | None
) -> np.ndarray:
    check_target(target_column, regression=classes is None)
    if classes is not None:
        return class_indices(target_column, classes)
    return regression_targets(target_column, (preprocessing or {}).get("target_offset", 0))


def _plain_numbers(table: Table) -> np.ndarray:
    """Return the columns as a matrix; they must be numbers without missing values."""
    if isinstance(table, ArrayTable):
        return table.matrix
    columns = [table.column(name) for name in table.names]
    if not columns:
        raise DataError(f"{table.source} has no column beside the target; expected at least one feature.")
    for column in columns:
        odd = column.texts()[0] if column.kind in ("bool", "text") else None
        if odd is not None or column.missing().any():
            seen = "an empty cell" if odd is None else repr(odd[:40])
            raise DataError(
                f"{column.label} holds {seen}; expected numbers, since the model has no record of its training table."
            )
        check_finite(column)
    return np.stack([column.numbers() for column in columns], axis=1)


def _is_read_back(label: str) -> bool:
    """Whether a label that is read as a number or a boolean has the same text again."""
    if label.lstrip("-").isdecimal():
        return str(int(label)) == label
    return label in ("True", "False") or (is_number(label) and repr(float(label)) == label)
