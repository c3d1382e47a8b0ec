"""Tables read in chunks of rows: files of any size, and folders of such files."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from .._common.arithmetic import ceil_div
from .._common.errors import DataError
from ..io.array_files import map_npy, read_npz
from .columns import ArrayTable, Column, FrameTable, Table, import_optional
from .dialect import UNKNOWN_FORMAT, TextFormat
from .shards import files_of, labels_of_folder, require_shards, source_files
from .source import array_pair, require_arrays, resolve_column, target_file
from .table_files import TextFile, first_line_of, is_text_file, reject_format

__all__ = ["Chunk", "ChunkedTable", "as_matrix", "open_tables"]

# A chunk has at most this many cells: 16 MiB in float64.
_CELLS = 1 << 21
_BUFFER = 1 << 16  # bytes of a column of a Parquet file to read at once
# The columns of a Parquet file are read in at most 32 groups, of at least 4 columns: while rows are read, some
# pages of each column are in memory, which together may be as large as the table.
_COLUMN_GROUPS, _LEAST_COLUMNS = 32, 4


class Chunk(NamedTuple):
    """Some rows of a table, with their target if it has one."""

    table: Table
    target: Column | None

    @property
    def target_column(self) -> Column:
        """The target of a table that has one."""
        assert self.target is not None
        return self.target


Reader = Callable[[list[str] | None], Iterator[Chunk]]


class ChunkedTable:
    """Table of one or several files, which is read in chunks of rows.

    Parameters
    ----------
    path : Path
        A table, or a folder of tables of one kind, which are read in the order of their names.
    target : str, int or None
        See `source.TableSource`.
    given, likely : TextFormat
        See `detect_format`.
    labeled : bool
        Whether the table has targets; without them `Chunk.target_column` is None.

    Attributes
    ----------
    path : Path
    files : list of Path
    sources : list of Path
        The files, and those of their targets.
    names : list of str
        Names of all columns.
    target_name : str or None
        Name of the target, where it is a column of the table.
    format : TextFormat
        Format of text files, without unknown entries; header False for arrays.
    row_labels : str or None
        Name of the first column of a text file, if only this column has no name in the file.
    header : bool or None
        Whether the first line of a text file names the columns; None for other sources.
    image_shape : tuple of int or None
        (channels, height, width) of a row, for arrays of images.
    matrix : ndarray or None
        All features, for a single file of an array with targets of its own or none.
    test_part : ChunkedTable or None
        The rows of ``X_test`` and ``y_test`` of an ``.npz`` file.
    texts : set of str
        Columns that are read as texts, see `unify_kinds`.

    Raises
    ------
    DataError
        If a file is damaged, has no such target, or has other columns than the first one.
    """

    def __init__(
        self,
        path: Path,
        target: str | int | None = None,
        given: TextFormat = UNKNOWN_FORMAT,
        likely: TextFormat = UNKNOWN_FORMAT,
        labeled: bool = True,
    ) -> None:
        self._labeled = labeled
        self.sources = source_files(path, target)
        self.path, self.files = path, files_of(path, target)
        self.names: list[str] = []
        self.target_name: str | None = None
        self.format = TextFormat(header=False)
        self.row_labels: str | None = None
        self.header: bool | None = None
        self.image_shape: tuple[int, int, int] | None = None
        self.matrix: np.ndarray | None = None
        self.test_part: ChunkedTable | None = None
        self.texts: set[str] = set()
        self._target, self._given, self._likely = target, given, likely
        labels = labels_of_folder(path, target)
        self._labels = None if labels is None else _SharedLabels(labels)
        require_shards(self.files)
        for file in self.files:
            reject_format(file, given)
        self._readers = [self._reader(file) for file in self.files]
        if self._labels is not None:
            self._labels.require_end(path)

    def __iter__(self) -> Iterator[Chunk]:
        """Yield the rows in chunks; every iteration yields the same chunks, except for `texts`."""
        return self.chunks()

    def chunks(self, columns: list[str] | None = None) -> Iterator[Chunk]:
        """Yield the rows in chunks, with the named ``columns`` only where that is faster; the target is always read."""
        for reader in self._readers:
            yield from reader(columns)

    def column_groups(self, names: list[str]) -> list[list[str]]:
        """Return ``names`` in groups, whose `chunks` together take less memory than those of all columns at once."""
        if self.files[0].suffix.lower() != ".parquet":
            return [names]
        size = max(_LEAST_COLUMNS, ceil_div(len(names), _COLUMN_GROUPS))
        return [names[start : start + size] for start in range(0, len(names), size)]

    def unify_kinds(self, kinds: dict[str, set[str]]) -> None:
        """Read columns of text files as texts whose ``kinds``, by name, differ from chunk to chunk."""
        numeric = {"number", "integer"}
        self.texts |= {name for name, seen in kinds.items() if len(seen) > 1 and not seen <= numeric}

    def _reader(self, file: Path) -> Reader:
        if is_text_file(file):
            return self._text_reader(file)
        return {".parquet": self._parquet_reader, ".npy": self._npy_reader, ".npz": self._npz_reader}[
            file.suffix.lower()
        ](file)

    def _set_columns(self, file: Path, names: list[str]) -> None:
        """Set the names of the columns, or compare them with those of the first file."""
        if not self.names:
            self.names = names
        elif names != self.names:
            raise DataError(
                f"{file} has {len(names)} columns ({', '.join(names[:5])}, ...); expected the "
                f"{len(self.names)} columns of {self.files[0]}."
            )

    def _resolve_target(self, file: Path) -> str | None:
        if not self._labeled:
            return None
        return resolve_column(-1 if self._target is None else self._target, self.names, "target", str(file))

    def _text_reader(self, file: Path) -> Reader:
        first = not self.names
        text = TextFile(file, self._given, self._likely if first else self.format)
        self._set_columns(file, text.names)
        if first:
            self.format, self.header = text.format, text.format.header
            self.target_name = self._resolve_target(file)
            if text.row_labels and self.target_name != text.names[0]:
                self.row_labels = text.names[0]
            text.report()

        def read(columns: list[str] | None) -> Iterator[Chunk]:
            for table in text.read_chunks(self.texts, max(1, _CELLS // len(self.names))):
                yield self._split_target(table)

        return read

    def _parquet_reader(self, file: Path) -> Reader:
        pandas, parquet = import_optional("pandas"), import_optional("pyarrow.parquet")
        arrow = import_optional("pyarrow")
        # Integers with missing values stay integers.
        kinds = {
            getattr(arrow, f"{sign}int{bits}")(): getattr(pandas, f"{sign.upper()}Int{bits}Dtype")()
            for sign in ("", "u")
            for bits in (8, 16, 32, 64)
        }
        kinds[arrow.bool_()] = pandas.BooleanDtype()
        try:
            names = list(parquet.read_schema(file).names)
        except Exception as error:  # pyarrow raises many types of exceptions for damaged files
            raise DataError(f"{file} cannot be read as Parquet: {first_line_of(error)}.") from error
        self._set_columns(file, names)
        self.format = TextFormat(header=True)
        self.target_name = self._resolve_target(file)

        def read(columns: list[str] | None) -> Iterator[Chunk]:
            target = [] if self.target_name is None else [self.target_name]
            wanted = names if columns is None else list(dict.fromkeys([*columns, *target]))
            rows = max(1, _CELLS // 4 // len(wanted))
            try:
                # Without these options whole groups of rows are in memory, which may be all of the file.
                with parquet.ParquetFile(file, pre_buffer=False, buffer_size=_BUFFER) as opened:
                    for batch in opened.iter_batches(
                        rows, columns=None if columns is None else wanted, use_threads=False
                    ):
                        frame = batch.to_pandas(types_mapper=kinds.get, use_threads=False)
                        yield self._split_target(FrameTable(frame, str(file)))
                        arrow.default_memory_pool().release_unused()
            except DataError:
                raise
            except Exception as error:
                raise DataError(f"{file} cannot be read as Parquet: {first_line_of(error)}.") from error

        return read

    def _split_target(self, table: FrameTable) -> Chunk:
        return Chunk(table, None if self.target_name is None else table.column(self.target_name))

    def _npy_reader(self, file: Path) -> Reader:
        X = map_npy(file)
        if not self._labeled:
            return self._unlabeled_reader(file, X)
        if self._labels is not None:
            return self._arrays_reader(file, X, self._labels.next_rows(len(X)), str(self._labels.path))
        beside = target_file(file, self._target)
        if beside is not None:
            return self._arrays_reader(file, X, map_npy(beside), str(beside))
        if X.ndim != 2 or self._target is None:
            raise DataError(
                f"{file} needs a target: a file (target='labels.npy', or {file.stem}_y.npy beside {file.stem}_X.npy), "
                "or the index of a column of a matrix."
            )
        matrix = ArrayTable(X, str(file))
        self._set_columns(file, matrix.names)
        self.target_name = self._resolve_target(file)

        def read(columns: list[str] | None) -> Iterator[Chunk]:
            for rows in _slices(X):
                table = ArrayTable(X[rows], str(file))
                yield Chunk(table, table.column(str(self.target_name)))

        return read

    def _npz_reader(self, file: Path) -> Reader:
        if not self._labeled:
            arrays = read_npz(file, ("X",))
            if "X" not in arrays:
                raise DataError(f"{file} has no array X; expected the rows under this key.")
            return self._unlabeled_reader(file, arrays["X"])
        arrays = read_npz(file, ("X", "y", "X_test", "y_test"))
        require_arrays(file, arrays)
        read = self._arrays_reader(file, arrays["X"], arrays["y"], f"{file}[y]")
        if "X_test" in arrays:
            if len(self.files) > 1:
                raise DataError(f"{file} has a test part (X_test, y_test); expected only X and y in a folder of files.")
            self.test_part = copy.copy(self)
            self.test_part._readers = [self._arrays_reader(file, arrays["X_test"], arrays["y_test"], f"{file}[y_test]")]
        return read

    def _unlabeled_reader(self, file: Path, X: np.ndarray) -> Reader:
        matrix = as_matrix(X)
        self._set_columns(file, [str(index) for index in range(matrix.shape[1])])
        self._set_matrix(matrix)

        def read(columns: list[str] | None) -> Iterator[Chunk]:
            for rows in _slices(matrix):
                yield Chunk(ArrayTable(matrix[rows], str(file)), None)

        return read

    def _set_matrix(self, matrix: np.ndarray) -> None:
        self.matrix = matrix if len(self.files) == 1 and matrix.dtype != np.bool_ else None

    def _arrays_reader(self, file: Path, X: np.ndarray, y: np.ndarray, y_label: str) -> Reader:
        width = int(np.prod(X.shape[1:]))
        self._set_columns(file, [str(index) for index in range(width)])
        self.image_shape = array_pair(X[:0], y[:0], str(file), y_label)[2]
        if len(y) != len(X):
            raise DataError(f"{y_label} has shape {y.shape}; expected ({len(X)},), one target a row.")
        self._set_matrix(X.reshape(len(X), width))

        def read(columns: list[str] | None) -> Iterator[Chunk]:
            for rows in _slices(X):
                yield Chunk(*array_pair(X[rows], y[rows], str(file), y_label)[:2])

        return read


class _SharedLabels:
    """Targets of several arrays of features in one file, in the order of these arrays."""

    def __init__(self, path: Path) -> None:
        self.path, self._y, self._taken = path, map_npy(path), 0

    def next_rows(self, rows: int) -> np.ndarray:
        """Return the targets of the next array."""
        start, self._taken = self._taken, self._taken + rows
        if self._taken > len(self._y):  # the message needs the rows of the arrays behind this one
            return np.broadcast_to(self._y[:1], (rows,))
        return self._y[start : self._taken]

    def require_end(self, folder: Path) -> None:
        """Raise DataError unless each target has its row."""
        if self._taken != len(self._y):
            raise DataError(
                f"{self.path} has shape {self._y.shape}; expected ({self._taken},), one target for each row of the "
                f"files in {folder}."
            )


def as_matrix(X: np.ndarray) -> np.ndarray:
    """Return an array of rows as a matrix: a row with all its dimensions, or one number a row."""
    return X.reshape(len(X), -1) if X.ndim > 1 else X[:, None]


def _slices(X: np.ndarray) -> Iterator[slice]:
    size = max(1, _CELLS // max(1, int(np.prod(X.shape[1:]))))
    for start in range(0, len(X), size):
        yield slice(start, start + size)


def open_tables(
    path: Path, target: str | int | None, test: str | os.PathLike[str] | None, given: TextFormat
) -> tuple[ChunkedTable, ChunkedTable | None]:
    """Return a table and its test part: that of an ``.npz`` file, the table ``test``, or None.

    Raises
    ------
    DataError
        As `ChunkedTable`, or if there are two test parts.
    """
    source = ChunkedTable(path, target, given)
    if test is None:
        return source, source.test_part
    if source.test_part is not None:
        raise DataError(f"{path} has a test part of its own (X_test, y_test); expected none by test=.")
    held_out = Path(os.path.expanduser(test))
    text = given if is_text_file(files_of(held_out)[0]) else UNKNOWN_FORMAT
    return source, ChunkedTable(held_out, source.target_name, text, source.format)
