"""Tables as data sets: CSV, TSV, Parquet, and NumPy arrays."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ..errors import DataError
from .array_files import ARRAY_SUFFIXES, read_npy, read_npz
from .columns import ArrayTable, Column, Table, array_column
from .dataset import Dataset
from .preprocessing import encode, encoded_names, fit_columns
from .split import split_rows
from .table_files import FRAME_SUFFIXES, read_frame
from .target import choose_task, class_indices, class_names, regression_targets

__all__ = ["TABLE_OPTIONS", "TABLE_SUFFIXES", "load_table"]

TABLE_SUFFIXES = FRAME_SUFFIXES + ARRAY_SUFFIXES
TABLE_OPTIONS = ("target", "categorical", "drop", "header", "test_size", "test", "seed", "task", "dtype")

_ColumnChoice = str | int


def load_table(
    path: Path,
    *,
    target: str | int | None = None,
    categorical: Literal["auto"] | Sequence[str | int] = "auto",
    drop: Sequence[str | int] = (),
    header: bool | None = None,
    test_size: float = 0.2,
    test: str | os.PathLike[str] | None = None,
    seed: int = 0,
    task: str = "auto",
    dtype: str = "float32",
) -> Dataset:
    """Read a table and split it; see `fastmlp.datasets.load` for the options.

    Raises
    ------
    DataError
        If a file is damaged or an option does not fit it.
    """
    if dtype not in ("float32", "float64"):
        raise DataError(f"dtype is {dtype!r}; expected 'float32' or 'float64'.")
    source = _Source(path, target, header)
    features, goal = source.table, source.goal
    chosen_task = choose_task(goal, task)
    classes = class_names(goal) if chosen_task == "classification" else None
    y = regression_targets(goal) if classes is None else class_indices(goal, classes)

    held_out = source.test_part
    if test is not None:
        if held_out is not None:
            raise DataError(f"{path} has a test part of its own (X_test, y_test); expected no test=.")
        file = Path(os.path.expanduser(test))
        other = source if file == path else _Source(file, source.target, source.header)
        held_out = (other.table, other.goal)
    if held_out is not None:
        train_table, test_table, y_train = features, held_out[0], y
        choose_task(held_out[1], chosen_task)  # the same demands on the values
        y_test = (
            regression_targets(held_out[1], constant=True).astype(y.dtype)
            if classes is None
            else class_indices(held_out[1], classes)
        )
    else:
        train, held = split_rows(len(y), test_size, seed, None if classes is None else y)
        train_table, test_table = features.take(train), features.take(held)
        y_train, y_test = y[train], y[held]

    common: dict[str, Any] = {"name": path.name, "task": chosen_task, "classes": classes}
    if categorical == "auto" and not drop and source.target is None:
        X, X_test = _raw_bytes(train_table), _raw_bytes(test_table)
        if X is not None and X_test is not None:
            return Dataset(X, y_train, X_test, y_test, image_shape=source.image_shape, **common)

    dropped = {_resolve(choice, features.names, "drop", str(path)) for choice in drop}
    names = [name for name in features.names if name != source.target and name not in dropped]
    if not names:
        raise DataError(f"{path} has no column beside the target; expected at least one feature.")
    listed = () if isinstance(categorical, str) else categorical
    if isinstance(categorical, str) and categorical != "auto":
        raise DataError(f"categorical is {categorical!r}; expected 'auto' or a list of column names.")
    as_categories = {_resolve(choice, names, "categorical", str(path)) for choice in listed}
    absent = [name for name in names if name not in test_table.names]
    if absent:
        raise DataError(f"{test_table.source} lacks the column {absent[0]!r}, which {path} has.")

    specs = fit_columns(train_table, names, as_categories)
    arrays = isinstance(features, ArrayTable)
    return Dataset(
        encode(train_table, specs, None, np.dtype(dtype)),
        y_train,
        encode(test_table, specs, None, np.dtype(dtype)),
        y_test,
        feature_names=None if arrays else encoded_names(specs),
        image_shape=source.image_shape if len(specs) == len(features.names) and not as_categories else None,
        preprocessing={
            "columns": specs,
            "all_columns": features.names,
            "target": source.target,
            "header": source.header,
            "dtype": dtype,
        },
        **common,
    )


def _raw_bytes(table: Table) -> np.ndarray | None:
    """The matrix of a table of uint8 arrays, which stays as it is."""
    if isinstance(table, ArrayTable) and table.matrix.dtype == np.uint8:
        return np.ascontiguousarray(table.matrix)
    return None


class _Source:
    """One table file: its columns, and which of them (or which array) is the target."""

    def __init__(self, path: Path, target: _ColumnChoice | None, header: bool | None) -> None:
        self.target: str | None = None
        self.header = False
        self.test_part: tuple[Table, Column] | None = None
        self.image_shape: tuple[int, int, int] | None = None
        self.table: Table
        self.goal: Column
        suffix = path.suffix.lower()
        if suffix not in TABLE_SUFFIXES:
            raise DataError(f"{path} is no table; expected a name that ends in {', '.join(TABLE_SUFFIXES)}.")
        if suffix == ".npz":
            self._from_npz(path)
            return
        if suffix == ".npy":
            beside = _target_file(path, target)
            if beside is not None:
                X = read_npy(path)
                self.table, self.goal = self._pair(X, read_npy(beside), str(path), str(beside))
                return
            matrix = read_npy(path)
            if matrix.ndim != 2 or target is None:
                raise DataError(
                    f"{path} needs a target: a file (target='labels.npy', or {path.stem}_y.npy beside "
                    f"{path.stem}_X.npy), or the index of a column of a matrix."
                )
            self.table = ArrayTable(matrix, str(path))
        else:
            self.table, self.header = read_frame(path, header)
        self.target = _resolve(-1 if target is None else target, self.table.names, "target", str(path))
        self.goal = self.table.column(self.target)

    def _from_npz(self, path: Path) -> None:
        arrays = read_npz(path, ("X", "y", "X_test", "y_test"))
        absent = [key for key in ("X", "y") if key not in arrays]
        if absent or ("X_test" in arrays) != ("y_test" in arrays):
            raise DataError(
                f"{path} has {'the arrays ' + ', '.join(sorted(arrays)) if arrays else 'neither X nor y'}; expected "
                "X and y, and perhaps X_test and y_test."
            )
        self.table, self.goal = self._pair(arrays["X"], arrays["y"], f"{path}[X]", f"{path}[y]")
        if "X_test" in arrays:
            X_test, y_test = arrays["X_test"], arrays["y_test"]
            self.test_part = self._pair(X_test, y_test, f"{path}[X_test]", f"{path}[y_test]")

    def _pair(self, X: np.ndarray, y: np.ndarray, X_label: str, y_label: str) -> tuple[ArrayTable, Column]:
        if X.ndim < 2 or X.dtype.kind not in "biuf":
            raise DataError(f"{X_label} has shape {X.shape} and dtype {X.dtype}; expected numbers (N, features).")
        if y.shape not in ((len(X),), (len(X), 1)):
            raise DataError(f"{y_label} has shape {y.shape}; expected ({len(X)},), one target a row.")
        if X.ndim in (3, 4):
            self.image_shape = (1, *X.shape[1:]) if X.ndim == 3 else X.shape[1:]
        matrix = X.reshape(len(X), -1)
        if matrix.dtype == np.bool_:
            matrix = matrix.astype(np.uint8)
        return ArrayTable(matrix, X_label), array_column(y.reshape(-1), y_label)


def _target_file(path: Path, target: _ColumnChoice | None) -> Path | None:
    """The file of targets that belongs to a ``.npy`` file of features, if the caller means one."""
    if isinstance(target, str) and target.lower().endswith(".npy"):
        named = Path(os.path.expanduser(target))
        return named if named.is_absolute() or named.exists() else path.with_name(target)
    if target is None and path.stem.endswith("_X"):
        return path.with_name(path.stem.removesuffix("_X") + "_y.npy")
    return None


def _resolve(choice: _ColumnChoice, names: list[str], option: str, source: str) -> str:
    """A column's name from its name or its index; an index may come as text from a command line."""
    if isinstance(choice, str):
        if choice in names:
            return choice
        if choice.lstrip("-").isdigit():
            choice = int(choice)
    if isinstance(choice, (int, np.integer)) and -len(names) <= choice < len(names):
        return names[int(choice)]
    shown = ", ".join(names[:30]) + (", ..." if len(names) > 30 else "")
    raise DataError(f"{source} has no column {choice!r} ({option}); its columns are {shown}.")
