"""Reading of a table's training and test part, without an encoding."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from .._common.errors import DataError
from .columns import Column, Table
from .dataset import Task
from .dialect import UNKNOWN_FORMAT, TextFormat, validate_format
from .source import TableSource
from .split import split_rows
from .table_files import is_text_file
from .target import check_target, choose_task, class_indices, class_names, require_variation

__all__ = ["Subset", "TrainTestSplit", "read_train_test"]


class Subset(NamedTuple):
    """Rows of a table with their targets."""

    table: Table
    target_column: Column


class TrainTestSplit(NamedTuple):
    """Training and test part of a table.

    Attributes
    ----------
    source : TableSource
        File of the training part.
    task : {"classification", "regression"}
    classes : tuple of str or None
        Class names; None for regression.
    train, test : Subset
    separate_test : bool
        Whether the test part has its own file or arrays.
    """

    source: TableSource
    task: Task
    classes: tuple[str, ...] | None
    train: Subset
    test: Subset
    separate_test: bool


def read_train_test(
    path: Path,
    *,
    target: str | int | None = None,
    header: bool | None = None,
    separator: str | None = None,
    decimal: str | None = None,
    test_size: float = 0.2,
    test: str | os.PathLike[str] | None = None,
    seed: int = 0,
    task: str = "auto",
    to_train: bool = True,
) -> TrainTestSplit:
    """Read a table, and split it unless it has a test part or ``test`` is given.

    Parameters
    ----------
    path : Path
    target, header, separator, decimal, test_size, test, seed, task
        See `load`.
    to_train : bool
        Whether the target must vary.

    Raises
    ------
    DataError
        As `load_table`.
    """
    given = validate_format(header, separator, decimal)
    source = TableSource(path, target, given)
    target_column = source.target_column
    chosen = choose_task(target_column, task)
    classes = class_names(target_column) if chosen == "classification" else None
    if to_train:
        require_variation(target_column, classes)
    held_out = None if source.test_part is None else Subset(*source.test_part)
    if test is not None:
        if held_out is not None:
            raise DataError(f"{path} has a test part of its own (X_test, y_test); expected none by test=.")
        held_out = _second_file(source, Path(os.path.expanduser(test)), given)
    if held_out is not None:
        check_target(held_out.target_column, regression=classes is None)
        return TrainTestSplit(source, chosen, classes, Subset(source.table, target_column), held_out, True)
    labels = None if classes is None else class_indices(target_column, classes)
    train, held = split_rows(len(target_column), test_size, seed, labels)
    train_part, test_part = (Subset(source.table.take(rows), target_column.take(rows)) for rows in (train, held))
    return TrainTestSplit(source, chosen, classes, train_part, test_part, False)


def _second_file(source: TableSource, file: Path, given: TextFormat) -> Subset:
    """Read the file of the test part, with text columns as in the training file."""
    if file == source.path:
        return Subset(source.table, source.target_column)
    texts = [name for name in source.table.names if is_text_file(file) and source.table.column(name).kind == "text"]
    other = TableSource(file, source.target_name, given if is_text_file(file) else UNKNOWN_FORMAT, source.format, texts)
    return Subset(other.table, other.target_column)
