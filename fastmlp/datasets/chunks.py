"""Tables read in chunks of rows: files of any size, and folders of such files."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from .._common.arithmetic import ceil_div
from .._common.errors import DataError
from ..io.array_files import ARRAY_SUFFIXES, map_npy, read_npz
from .columns import ArrayTable, Column, FrameTable, Table, import_optional
from .dialect import UNKNOWN_FORMAT, TextFormat
from .source import TABLE_SUFFIXES, array_pair, require_arrays, resolve_column, target_file
from .table_files import TextFile, first_line_of, is_text_file, reject_format

__all__ = ["Chunk", "ChunkedTable"]

# A chunk has at most this many cells: 16 MiB in float64.
_CELLS = 1 << 21
_BUFFER = 1 << 16  # bytes of a column of a Parquet file to read at once
# Parts in which the columns of a Parquet file are read, at least so many columns at once: while rows are read, some
# pages of each column are in memory, which together may be as large as the table.
_COLUMN_GROUPS, _LEAST_COLUMNS = 32, 4


class Chunk(NamedTuple):
    """Some rows of a table, with their target."""

    table: Table
    target_column: Column


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
    texts : collection of str
        Columns to read as texts even if they look like numbers.

    Attributes
    ----------
    path : Path
    files : list of Path
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
    ) -> None:
        self.path, self.files = path, _files_of(path)
        self.names: list[str] = []
        self.target_name: str | None = None
        self.format = TextFormat(header=False)
        self.row_labels: str | None = None
        self.header: bool | None = None
        self.image_shape: tuple[int, int, int] | None = None
        self.test_part: ChunkedTable | None = None
        self.texts: set[str] = set()
        self._target, self._given, self._likely = target, given, likely
        for file in self.files:
            reject_format(file, given)
        self._readers = [self._reader(file) for file in self.files]

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

    def _resolve_target(self, file: Path) -> str:
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
            wanted = names if columns is None else list(dict.fromkeys([*columns, str(self.target_name)]))
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
        assert self.target_name is not None
        return Chunk(table, table.column(self.target_name))

    def _npy_reader(self, file: Path) -> Reader:
        beside = target_file(file, self._target)
        X = map_npy(file)
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
        arrays = read_npz(file, ("X", "y", "X_test", "y_test"))
        require_arrays(file, arrays)
        read = self._arrays_reader(file, arrays["X"], arrays["y"], f"{file}[y]")
        if "X_test" in arrays:
            if len(self.files) > 1:
                raise DataError(f"{file} has a test part (X_test, y_test); expected only X and y in a folder of files.")
            self.test_part = copy.copy(self)
            self.test_part._readers = [self._arrays_reader(file, arrays["X_test"], arrays["y_test"], f"{file}[y_test]")]
        return read

    def _arrays_reader(self, file: Path, X: np.ndarray, y: np.ndarray, y_label: str) -> Reader:
        width = int(np.prod(X.shape[1:]))
        self._set_columns(file, [str(index) for index in range(width)])
        self.image_shape = array_pair(X[:0], y[:0], str(file), y_label)[2]
        if len(y) != len(X):
            raise DataError(f"{y_label} has shape {y.shape}; expected ({len(X)},), one target a row.")

        def read(columns: list[str] | None) -> Iterator[Chunk]:
            for rows in _slices(X):
                yield Chunk(*array_pair(X[rows], y[rows], str(file), y_label)[:2])

        return read


def _slices(X: np.ndarray) -> Iterator[slice]:
    size = max(1, _CELLS // max(1, int(np.prod(X.shape[1:]))))
    for start in range(0, len(X), size):
        yield slice(start, start + size)


def _files_of(path: Path) -> list[Path]:
    """Return the tables of a folder, sorted by name, or the file itself."""
    if path.is_file():
        if path.suffix.lower() not in TABLE_SUFFIXES:
            raise DataError(f"{path} is not a table; expected a name that ends in {', '.join(TABLE_SUFFIXES)}.")
        return [path]
    if not path.is_dir():
        raise DataError(f"{path} does not exist; expected a table, or a folder of tables.")
    found = sorted(file for file in path.iterdir() if file.suffix.lower() in TABLE_SUFFIXES)
    found = [file for file in found if not _is_target(file, found)]
    kinds = sorted({file.suffix.lower() for file in found})
    if len(kinds) != 1:
        seen = f"tables of several kinds ({', '.join(kinds)})" if kinds else "no table"
        raise DataError(f"{path} has {seen}; expected tables of one kind: {', '.join(TABLE_SUFFIXES)}.")
    return found


def _is_target(file: Path, others: Sequence[Path]) -> bool:
    """Whether a file has the targets of another one: part_y.npy beside part_X.npy."""
    return (
        file.suffix.lower() in ARRAY_SUFFIXES
        and file.stem.endswith("_y")
        and file.with_name(f"{file.stem.removesuffix('_y')}_X.npy") in others
    )
