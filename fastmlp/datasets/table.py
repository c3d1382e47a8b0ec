"""Loading of tables as data sets: CSV, TSV, Parquet, NumPy arrays."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from .._common.errors import DataError
from .._common.memory import available_memory, format_bytes
from .categories import UnknownValues
from .chunk_plan import ChunkPlan, encode_chunk, make_plan, numbered_chunks
from .chunks import ChunkedTable, open_tables
from .columns import ArrayTable, Table
from .dataset import Dataset
from .dialect import validate_format
from .features import choose_features, preprocessing_record, target_offset
from .fitting import fit_columns
from .preprocessing import encode, encoded_names, encoded_width
from .shards import files_of
from .source import TABLE_SUFFIXES
from .target import class_indices, regression_targets
from .train_test import read_train_test

__all__ = ["TABLE_OPTIONS", "TABLE_SUFFIXES", "load_table", "require_memory"]

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
    require_memory(path)
    test = reading.get("test")
    if path.is_dir() or (test is not None and Path(os.path.expanduser(test)).is_dir()):
        return _load_in_chunks(path, target, categorical, drop, index, dtype, center_target, **reading)
    if _is_parquet(path) and (test is None or _is_parquet(test)):
        return _load_in_chunks(path, target, categorical, drop, index, dtype, center_target, **reading)
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


def require_memory(path: Path) -> None:
    """Raise DataError if a table is larger than the free memory, in which it would take several times its size."""
    files, free = files_of(path) if path.is_dir() else [path], available_memory()
    size = sum(file.stat().st_size for file in files)
    if free is not None and size > free:
        raise DataError(
            f"{path} has {format_bytes(size)}, more than the free memory of {format_bytes(free)}; fastmlp pack "
            "converts it to a folder of arrays, which are read where they are used."
        )


def _is_parquet(path: str | os.PathLike[str]) -> bool:
    return Path(path).suffix.lower() == ".parquet"


def _load_in_chunks(
    path: Path,
    target: str | int | None,
    categorical: Literal["auto"] | Sequence[str | int],
    drop: Sequence[str | int],
    index: bool | None,
    dtype: str,
    center_target: bool,
    *,
    test: str | os.PathLike[str] | None = None,
    test_size: float = 0.2,
    seed: int = 0,
    task: str = "auto",
    header: bool | None = None,
    separator: str | None = None,
    decimal: str | None = None,
) -> Dataset:
    """Read a table several times, chunk by chunk, so that little more than the result is in memory."""
    source, held_out = open_tables(path, target, test, validate_format(header, separator, decimal))
    plan = make_plan(
        source, held_out, categorical=categorical, drop=drop, index=index, test_size=test_size, seed=seed, task=task,
        dtype=dtype, center_target=center_target,
    )  # fmt: skip
    parts = _encode_in_groups(source, held_out, plan)
    described = plan.described
    y_train, y_test = plan.targets()
    return Dataset(
        parts[0], y_train, parts[1], y_test,
        name=path.name, task=described["task"],
        classes=None if described["classes"] is None else tuple(described["classes"]),
        feature_names=None if described["feature_names"] is None else tuple(described["feature_names"]),
        image_shape=described["image_shape"], preprocessing=described["preprocessing"],
    )  # fmt: skip


def _encode_in_groups(source: ChunkedTable, held_out: ChunkedTable | None, plan: ChunkPlan) -> list[np.ndarray]:
    """Return the features of both parts, which are filled by groups of columns, chunk by chunk."""
    record = plan.described["preprocessing"]
    tables = [source] if held_out is None else [source, held_out]
    unknown = [UnknownValues(str(table.path), strict > 0) for strict, table in enumerate(tables)]
    specs = {} if record is None else {spec["name"]: spec for spec in record["columns"]}
    number = np.dtype(np.uint8 if record is None else record["dtype"])
    columns = len(source.names) if record is None else sum(map(encoded_width, specs.values()))
    parts = [np.empty((len(y), columns), number) for y in (plan.y_train, plan.y_test)]
    first = 0
    for group in source.column_groups(list(specs)):
        described = {"preprocessing": record and {**record, "columns": [specs[name] for name in group]}}
        done, width = [0, 0], 0
        for place, table in enumerate(tables):
            for start, chunk in numbered_chunks(table, group):
                encoded = encode_chunk(chunk.table, described, unknown[place])
                width = encoded.shape[1]
                for part, rows in enumerate(plan.split(encoded, None if place else start)):
                    parts[part][done[part] : done[part] + len(rows), first : first + width] = rows
                    done[part] += len(rows)
        if done != [len(part) for part in parts]:
            raise DataError(f"{source.path} has changed while it was read; load it again.")
        first += width
    for one in unknown:
        one.report()
    return parts


def _raw_bytes(table: Table) -> np.ndarray | None:
    """Return the matrix of a uint8 table, which is not encoded; None for other tables."""
    if isinstance(table, ArrayTable) and table.matrix.dtype == np.uint8:
        return np.ascontiguousarray(table.matrix)
    return None
