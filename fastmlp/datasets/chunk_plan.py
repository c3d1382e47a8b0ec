"""Conversion of a table in chunks: statistics and split of all rows, and the encoding of some of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Literal, NamedTuple

import numpy as np

from .._common.errors import DataError
from ..io.scratch import Empty
from .categories import UnknownValues
from .chunks import Chunk, ChunkedTable
from .columns import ArrayTable, Column, Table, join_columns
from .features import choose_features, preprocessing_record, target_offset
from .fitting import TableStatistics, sample_step
from .preprocessing import encode, encoded_names
from .split import draw_test_rows
from .target import check_target, choose_task, class_indices, class_names, regression_targets, require_variation

__all__ = ["ChunkPlan", "dtype_of_targets", "encode_chunk", "make_plan", "numbered_chunks"]


_JOINED = 1 << 20  # rows of targets that are joined at once


class ChunkPlan(NamedTuple):
    """How the chunks of a table become the arrays of a data set.

    Attributes
    ----------
    described : dict
        JSON-able: task, classes, feature_names, image_shape and preprocessing of `Dataset`.
    in_train : ndarray of bool of shape (N,)
        Mask of the rows in the training part.
    y_train, y_test : ndarray
        Targets of both parts; indices of classes in the smallest dtype that has them, see `targets`.
    """

    described: dict[str, Any]
    in_train: np.ndarray
    y_train: np.ndarray
    y_test: np.ndarray

    def targets(self) -> Iterator[np.ndarray]:
        """Yield the targets of the training and of the test part as those of `Dataset`."""
        for y in (self.y_train, self.y_test):
            yield y.astype(dtype_of_targets(y), copy=False)

    def split(self, rows: np.ndarray, start: int | None) -> tuple[np.ndarray, np.ndarray]:
        """Return the training and the test part of the rows from number ``start`` on; None for those of a test file."""
        if start is None:
            return rows[:0], rows
        mask = self.in_train[start : start + len(rows)]
        return rows[mask], rows[~mask]


def dtype_of_targets(y: np.ndarray) -> np.dtype[Any]:
    """Return the dtype in which a `Dataset` has the targets of a plan."""
    return y.dtype if y.dtype.kind == "f" else np.dtype(np.int64)


def make_plan(
    source: ChunkedTable,
    held_out: ChunkedTable | None,
    *,
    categorical: Literal["auto"] | Sequence[str | int],
    drop: Sequence[str | int],
    index: bool | None,
    test_size: float,
    seed: int,
    task: str,
    dtype: str,
    center_target: bool,
    progress: Callable[[str], None] = lambda line: None,
    empty: Empty = np.empty,
) -> ChunkPlan:
    """Read the targets and the statistics of a table.

    Parameters
    ----------
    source : ChunkedTable
    held_out : ChunkedTable or None
        Test part; None splits ``source``.
    categorical, drop, index, test_size, seed, task, dtype, center_target
        See `fastmlp.datasets.load`.
    progress : function of a str, optional
        Called with a line after each stage.
    empty : function, optional
        Makes arrays with a number for each row, which may be as large as all else in memory together.

    Returns
    -------
    ChunkPlan

    Raises
    ------
    DataError
        If a table is damaged, or does not fit an option.
    """
    number = np.dtype(dtype)
    target_column, raw = _scan(source, empty)
    every = len(target_column)
    progress(f"{source.path}: {every:,} rows")
    chosen = choose_task(target_column, task)
    classes = class_names(target_column) if chosen == "classification" else None
    require_variation(target_column, classes)
    offset: float = 0
    if classes is not None:
        target_column = replace(target_column, kind="integer", values=class_indices(target_column, classes, empty))
    in_train = empty(every, bool)
    if held_out is None:
        in_test = draw_test_rows(every, test_size, seed, None if classes is None else target_column.values, in_train)
        test_column = target_column.compress(in_test, empty)
        train_column = target_column.compress(np.logical_not(in_test, out=in_train), empty)
    else:
        in_train[:] = True
        held_out.texts |= source.texts
        train_column, (test_column, test_raw) = target_column, _scan(held_out, empty)
        raw = raw and test_raw
        check_target(test_column, regression=classes is None)
        if classes is not None:
            test_column = replace(test_column, kind="integer", values=class_indices(test_column, classes, empty))
    del target_column
    y_train, y_test = train_column.values, test_column.values
    if classes is None:
        offset = target_offset(train_column, number, center_target, empty)
        y_train = regression_targets(train_column, offset, empty)
        y_test = regression_targets(test_column, offset, empty).astype(y_train.dtype, copy=False)
    described: dict[str, Any] = {"task": chosen, "classes": None if classes is None else list(classes)}
    described |= {"image_shape": source.image_shape, "feature_names": None, "preprocessing": None}
    if raw and categorical == "auto" and not drop and not index and source.target_name is None and not offset:
        return ChunkPlan(described, in_train, y_train, y_test)  # bytes are not converted

    names, as_categories = choose_features(source, source.names, categorical, drop, index)
    _require_columns(held_out, names, source)
    rows = len(y_train)
    specs: list[dict[str, Any]] = []
    for group in source.column_groups(names):
        statistics = TableStatistics(
            group, as_categories, number, center=source.image_shape is None, step=sample_step(rows, len(names))
        )
        for start, chunk in numbered_chunks(source, group):
            statistics.add(chunk.table.take(np.flatnonzero(in_train[start : start + len(chunk.table)])))
        specs += statistics.records()
    progress(f"statistics of {rows:,} training rows: {len(specs)} columns")
    described["preprocessing"] = preprocessing_record(source, source.names, specs, dtype, offset)
    if source.header is not None or source.format.header:
        described["feature_names"] = list(encoded_names(specs))
    if len(specs) != len(source.names) or as_categories:
        described["image_shape"] = None
    return ChunkPlan(described, in_train, y_train, y_test)


def _scan(source: ChunkedTable, empty: Empty) -> tuple[Column, bool]:
    """Return the target, and whether all features are bytes; make the types of columns in text files uniform."""
    targets: list[Column] = []
    kinds: dict[str, set[str]] = {name: set() for name in source.names}
    raw, first, rows = True, 0, 0  # ``rows`` of the numeric targets from number ``first`` on, which are joined at times
    for chunk in source.chunks([] if source.header is None else None):
        table = chunk.table
        targets.append(chunk.target_column)
        if targets[-1].kind in ("integer", "number"):
            rows += len(targets[-1])
            if rows >= _JOINED:
                targets[first:] = [join_columns(targets[first:], empty)]
                first, rows = first + 1, 0
        else:
            first, rows = len(targets), 0
        raw = raw and isinstance(table, ArrayTable) and table.matrix.dtype == np.uint8
        if source.header is not None:
            for name in source.names:
                column = table.column(name)
                if not column.missing().all():
                    kinds[name].add(column.kind)
    if not sum(map(len, targets)):
        raise DataError(f"{source.path} has no rows; expected at least one.")
    before = set(source.texts)
    source.unify_kinds(kinds)
    if source.target_name in source.texts - before:
        targets = [chunk.target_column for chunk in source]
    return join_columns(targets, empty), raw


def numbered_chunks(source: ChunkedTable, columns: list[str] | None = None) -> Iterator[tuple[int, Chunk]]:
    """Yield (number of the first row, chunk); ``columns`` as for `ChunkedTable.chunks`."""
    start = 0
    for chunk in source.chunks(columns):
        yield start, chunk
        start += len(chunk.table)


def _require_columns(held_out: ChunkedTable | None, names: list[str], source: ChunkedTable) -> None:
    absent = [] if held_out is None else [name for name in names if name not in held_out.names]
    if absent and held_out is not None:
        raise DataError(f"{held_out.path} lacks the column {absent[0]!r}, which {source.path} has.")


def encode_chunk(table: Table, described: dict[str, Any], unknown: UnknownValues) -> np.ndarray:
    """Return the features of a chunk as `ChunkPlan.described` says, and collect its unknown categories."""
    record = described["preprocessing"]
    if record is None:  # bytes
        assert isinstance(table, ArrayTable)
        return np.ascontiguousarray(table.matrix)
    return encode(table, record["columns"], None, np.dtype(record["dtype"]), unknown=unknown)
