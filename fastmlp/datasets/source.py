"""Table file with its target."""

from __future__ import annotations

import math
import os
from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np

from .._common.errors import DataError
from ..io.array_files import ARRAY_SUFFIXES, read_npy, read_npz
from .columns import ArrayTable, Column, Table, array_column
from .dialect import UNKNOWN_FORMAT, TextFormat, is_number
from .table_files import FRAME_SUFFIXES, TextFile, is_text_file, read_parquet, reject_format

__all__ = ["TABLE_SUFFIXES", "TableSource", "array_pair", "require_arrays", "resolve_column", "target_file"]

TABLE_SUFFIXES = FRAME_SUFFIXES + ARRAY_SUFFIXES


class TableSource:
    """Table file with its target.

    Parameters
    ----------
    path : Path
    target : str, int or None
        Name or index of the target column (None: the last one), or the file of the targets for a ``.npy`` file.
    given, likely : TextFormat
        See `detect_format`.
    texts : collection of str
        Columns to read as texts even if they look like numbers.
    text_target : bool
        Whether to read the target as text.

    Attributes
    ----------
    table : Table
    target_column : Column
        The target.
    target : str or None
        Its name, where it is a column of the table.
    format : TextFormat
        Format of a text file, without unknown entries; header False for arrays.
    row_labels : str or None
        Name of the first column of a text file, if only this column has no name in the file.
    test_part : (Table, Column) or None
        ``X_test`` and ``y_test`` of an ``.npz`` file.
    image_shape : tuple of int or None
        (channels, height, width) of a row, for arrays of images.

    Raises
    ------
    DataError
        If the file is damaged, or has no such target.
    """

    def __init__(
        self,
        path: Path,
        target: str | int | None,
        given: TextFormat = UNKNOWN_FORMAT,
        likely: TextFormat = UNKNOWN_FORMAT,
        texts: Collection[str] = (),
        text_target: bool = False,
    ) -> None:
        self.path = path
        self.target_name: str | None = None
        self.format = TextFormat(header=False)
        self.row_labels: str | None = None
        self.test_part: tuple[Table, Column] | None = None
        self.image_shape: tuple[int, int, int] | None = None
        self.table: Table
        self.target_column: Column
        suffix = path.suffix.lower()
        if suffix not in TABLE_SUFFIXES:
            raise DataError(f"{path} is not a table; expected a name that ends in {', '.join(TABLE_SUFFIXES)}.")
        reject_format(path, given)
        if suffix == ".npz":
            self._from_npz()
        elif suffix == ".npy" and (beside := target_file(path, target)) is not None:
            self.table, self.target_column = self._pair(read_npy(path), read_npy(beside), str(path), str(beside))
        elif is_text_file(path):
            self._from_text(target, TextFile(path, given, likely), texts, text_target)
        else:
            self._from_columns(target)

    def _from_text(self, target: str | int | None, file: TextFile, texts: Collection[str], text_target: bool) -> None:
        self.format = file.format
        try:
            self.target_name = _target_column(target, file.names, self.path)
        except DataError as error:
            # Numeric names may be a row of values.
            if file.format.header and any(map(is_number, file.names)):
                raise DataError(f"{str(error)[:-1]}; header=False reads its first line as a row.") from None
            raise
        if file.row_labels and self.target_name != file.names[0]:
            self.row_labels = file.names[0]
        self.table = file.read([*texts, self.target_name] if text_target else texts)
        self.target_column = self.table.column(self.target_name)

    def _from_columns(self, target: str | int | None) -> None:
        if self.path.suffix.lower() == ".npy":
            matrix = read_npy(self.path)
            if matrix.ndim != 2 or target is None:
                stem = self.path.stem
                raise DataError(
                    f"{self.path} needs a target: a file (target='labels.npy', or {stem}_y.npy beside {stem}_X.npy), "
                    "or the index of a column of a matrix."
                )
            self.table = ArrayTable(matrix, str(self.path))
        else:
            self.table = read_parquet(self.path)
            self.format = TextFormat(header=True)
        self.target_name = _target_column(target, self.table.names, self.path)
        self.target_column = self.table.column(self.target_name)

    def _from_npz(self) -> None:
        path = self.path
        arrays = read_npz(path, ("X", "y", "X_test", "y_test"))
        require_arrays(path, arrays)
        self.table, self.target_column = self._pair(arrays["X"], arrays["y"], f"{path}[X]", f"{path}[y]")
        if "X_test" in arrays:
            X_test, y_test = arrays["X_test"], arrays["y_test"]
            self.test_part = self._pair(X_test, y_test, f"{path}[X_test]", f"{path}[y_test]")

    def _pair(self, X: np.ndarray, y: np.ndarray, X_label: str, y_label: str) -> tuple[ArrayTable, Column]:
        table, column, self.image_shape = array_pair(X, y, X_label, y_label)
        return table, column


def require_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Raise DataError unless an ``.npz`` file has X and y, and X_test and y_test or neither."""
    if not {"X", "y"} <= set(arrays) or ("X_test" in arrays) != ("y_test" in arrays):
        raise DataError(
            f"{path} has {'the arrays ' + ', '.join(sorted(arrays)) if arrays else 'neither X nor y'}; expected "
            "X and y, and perhaps X_test and y_test."
        )


def array_pair(
    X: np.ndarray, y: np.ndarray, X_label: str, y_label: str
) -> tuple[ArrayTable, Column, tuple[int, int, int] | None]:
    """Return the table of features, the column of targets and the image shape of two arrays.

    Raises
    ------
    DataError
        If the arrays do not hold numbers, or do not fit each other.
    """
    if X.ndim < 2 or X.dtype.kind not in "biuf":
        raise DataError(f"{X_label} has shape {X.shape} and dtype {X.dtype}; expected numbers (N, features).")
    if y.shape not in ((len(X),), (len(X), 1)):
        raise DataError(f"{y_label} has shape {y.shape}; expected ({len(X)},), one target a row.")
    image_shape = None
    if X.ndim in (3, 4):
        image_shape = (1, *X.shape[1:]) if X.ndim == 3 else X.shape[1:]
    matrix = X.reshape(len(X), math.prod(X.shape[1:]))
    if matrix.dtype == np.bool_:
        matrix = matrix.astype(np.uint8)
    return ArrayTable(matrix, X_label), array_column(y.reshape(-1), y_label), image_shape


def _target_column(target: str | int | None, names: list[str], path: Path) -> str:
    return resolve_column(-1 if target is None else target, names, "target", str(path))


def target_file(path: Path, target: str | int | None) -> Path | None:
    """Return the file of the targets of a ``.npy`` file, or None if the target is a column."""
    if isinstance(target, str) and target.lower().endswith(".npy"):
        named = Path(os.path.expanduser(target))
        return named if named.is_absolute() or named.exists() else path.parent / target
    if target is None and path.stem.endswith("_X"):
        return path.with_name(path.stem.removesuffix("_X") + "_y.npy")
    return None


def resolve_column(choice: str | int, names: list[str], option: str, source: str) -> str:
    """Return the name of a column given by name or index; the index may be a text, as on the command line."""
    if isinstance(choice, str):
        if choice in names:
            return choice
        if choice.lstrip("-").isdigit():
            choice = int(choice)
    if isinstance(choice, (int, np.integer)) and -len(names) <= choice < len(names):
        return names[int(choice)]
    shown = ", ".join(names[:30]) + (", ..." if len(names) > 30 else "")
    raise DataError(f"{source} has no column {choice!r} ({option}); its columns are {shown}.")
