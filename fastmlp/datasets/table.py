"""Loading of tables as data sets: CSV, TSV, Parquet, NumPy arrays."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from .._common.errors import DataError, DataWarning, warn_user
from .._common.memory import available_memory, format_bytes
from .chunks import ChunkedTable
from .columns import ArrayTable, Column, Table
from .dataset import Dataset
from .fitting import centering_offset, fit_columns
from .preprocessing import encode, encoded_names
from .source import TABLE_SUFFIXES, TableSource, resolve_column
from .target import class_indices, regression_targets, require_variation
from .train_test import read_train_test

__all__ = ["TABLE_OPTIONS", "TABLE_SUFFIXES", "choose_features", "load_table", "preprocessing_record", "target_offset"]

TABLE_OPTIONS = (
    "target", "categorical", "drop", "index", "header", "separator", "decimal", "test_size", "test", "seed", "task",
    "dtype", "center_target",
)  # fmt: skip


def load_table(
    path: Path,
    *,
    target: str | int | None = None,
    categorical: Literal["auto"] | Sequence[str | int] = "auto",
    drop: Sequence[str | int] = (),
    index: bool | None = None,
    dtype: str = "float32",
    center_target: bool = False,
    **reading: Any,
) -> Dataset:
    """Read a table and split it; see `fastmlp.datasets.load` for the options.

    Raises
    ------
    DataError
        If a file is damaged or an option does not fit it.
    """
    if dtype not in ("float32", "float64"):
        raise DataError(f"dtype is {dtype!r}; expected 'float32' or 'float64'.")
    _require_memory(path)
    split = read_train_test(path, target=target, **reading)
    source, number = split.source, np.dtype(dtype)
    offset: float = 0
    if split.classes is None:
        offset = target_offset(split.train.target_column, number, center_target)
        y_train = regression_targets(split.train.target_column, offset)
        y_test = regression_targets(split.test.target_column, offset).astype(y_train.dtype)
    else:
        y_train, y_test = (class_indices(part.target_column, split.classes) for part in (split.train, split.test))

    common: dict[str, Any] = {"name": path.name, "task": split.task, "classes": split.classes}
    if categorical == "auto" and not drop and not index and source.target_name is None and not offset:
        X, X_test = _raw_bytes(split.train.table), _raw_bytes(split.test.table)
        if X is not None and X_test is not None:
            return Dataset(X, y_train, X_test, y_test, image_shape=source.image_shape, **common)

    names, as_categories = choose_features(source, source.table.names, categorical, drop, index)
    absent = [name for name in names if name not in split.test.table.names]
    if absent:
        raise DataError(f"{split.test.table.source} lacks the column {absent[0]!r}, which {path} has.")
    specs = fit_columns(split.train.table, names, as_categories, number, center=source.image_shape is None)
    every = source.table.names
    preprocessing = preprocessing_record(source, every, specs, dtype, offset)
    return Dataset(
        encode(split.train.table, specs, None, number),
        y_train,
        encode(split.test.table, specs, None, number, strict=split.separate_test),
        y_test,
        feature_names=None if isinstance(source.table, ArrayTable) else encoded_names(specs),
        image_shape=source.image_shape if len(specs) == len(every) and not as_categories else None,
        preprocessing=preprocessing,
        **common,
    )


def _require_memory(path: Path) -> None:
    """Raise DataError if a table is larger than the free memory, in which it would take several times its size."""
    size, free = path.stat().st_size, available_memory()
    if free is not None and size > free:
        raise DataError(
            f"{path} has {format_bytes(size)}, more than the free memory of {format_bytes(free)}; fastmlp pack "
            "converts it to a folder of arrays, which are read where they are used."
        )


def choose_features(
    source: TableSource | ChunkedTable,
    every: list[str],
    categorical: Literal["auto"] | Sequence[str | int],
    drop: Sequence[str | int],
    index: bool | None,
) -> tuple[list[str], set[str]]:
    """Return (feature columns, the numeric ones among them to encode as one-hot).

    Parameters
    ----------
    source : TableSource or ChunkedTable
    every : list of str
        Names of all columns.
    categorical, drop, index
        See `fastmlp.datasets.load`.

    Raises
    ------
    DataError
        If there is no such column, or no feature is left.
    """
    path = str(source.path)
    choices = [drop] if isinstance(drop, (str, int)) else drop
    dropped = {resolve_column(choice, every, "drop", path) for choice in choices}
    labels = source.row_labels
    if index:
        dropped.add(every[0])
    elif index is None and labels is not None and labels not in dropped:
        dropped.add(labels)
        warn_user(
            f"{path}: the first column has no name and is left out, as labels of the rows "
            "(index=False keeps it as a feature).",
            DataWarning,
        )
    if source.target_name in dropped:
        raise DataError(
            f"{path}: the column {source.target_name!r} is the target and is dropped; expected one of both."
        )
    names = [name for name in every if name != source.target_name and name not in dropped]
    if not names:
        raise DataError(f"{path} has no column beside the target; expected at least one feature.")
    if isinstance(categorical, str) and categorical != "auto":
        raise DataError(f"categorical is {categorical!r}; expected 'auto' or a list of column names.")
    chosen = () if isinstance(categorical, str) else categorical
    return names, {resolve_column(choice, names, "categorical", path) for choice in chosen}


def preprocessing_record(
    source: TableSource | ChunkedTable, every: list[str], specs: list[dict[str, Any]], dtype: str, offset: float
) -> dict[str, Any]:
    """Return `Dataset.preprocessing` of a table with columns ``every``, features ``specs`` and an offset of targets."""
    record = {
        "columns": specs,
        "all_columns": every,
        "target": source.target_name,
        **source.format._asdict(),
        "dtype": dtype,
    }
    return {**record, "target_offset": offset} if offset else record


def target_offset(target_column: Column, dtype: np.dtype[Any], center: bool) -> float:
    """Return the offset to subtract from the targets, so that a model of ``dtype`` can distinguish them.

    Raises
    ------
    DataError
        If the targets are all equal, or too large or too close to each other for ``dtype``.
    """
    require_variation(target_column, None)
    lost_by_float64 = centering_offset(target_column, np.dtype(np.float64))
    if lost_by_float64 and not center:
        warn_user(
            f"{target_column.label}: float64 loses digits of the target; center_target=True subtracts a median of it "
            "before.",
            DataWarning,
        )
    offset = centering_offset(target_column, dtype) if center else 0
    more = ", or read the table with dtype='float64'" if dtype == np.float32 else ""
    largest = float(np.abs(target_column.numbers(offset)).max())
    if largest > float(np.finfo(dtype).max):
        raise DataError(
            f"{target_column.label} is the target and holds {largest:g}, too large for {dtype}; scale it{more}."
        )
    y = target_column.numbers(lost_by_float64)
    if y.std() < float(np.finfo(dtype).tiny):  # squares of differences may underflow to 0
        differ = f"differs by {np.ptp(y):g} at most"
        raise DataError(f"{target_column.label} is the target and {differ}, too little for {dtype}; scale it{more}.")
    return offset


def _raw_bytes(table: Table) -> np.ndarray | None:
    """Return the matrix of a uint8 table, which is not encoded; None for other tables."""
    if isinstance(table, ArrayTable) and table.matrix.dtype == np.uint8:
        return np.ascontiguousarray(table.matrix)
    return None
