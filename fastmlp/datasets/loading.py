"""load: every data set by one function."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from .._common.errors import DataError
from .cifar10 import load_cifar10
from .dataset import Dataset
from .digits import load_digits
from .mnist import load_mnist
from .registry import SOURCES
from .table import TABLE_OPTIONS, TABLE_SUFFIXES, load_table

__all__ = ["available", "load", "table_path"]


def available() -> tuple[str, ...]:
    """Names of the data sets that `load` knows, beside paths to tables.

    Returns
    -------
    tuple of str
    """
    return tuple(SOURCES)


def load(
    name: str | os.PathLike[str],
    *,
    data_dir: str | os.PathLike[str] | None = None,
    download: bool = True,
    **table_options: Any,
) -> Dataset:
    """Load a data set as ``X, y, X_test, y_test``.

    Parameters
    ----------
    name : str or path-like
        ``"digits"`` (inside the package), ``"cifar10"``, ``"mnist"``, ``"fashion-mnist"``, or the path of
        a table: ``.csv``, ``.tsv``, ``.parquet`` (these need the extra ``tables``), ``.npz`` with arrays
        ``X``, ``y`` and perhaps ``X_test``, ``y_test``, or ``.npy`` features whose targets are in a file
        of their own: ``target="labels.npy"``, or ``<stem>_y.npy`` beside ``<stem>_X.npy``.
    data_dir : path-like, optional
        Where the files of a named set are looked for and downloaded to; else the environment variable
        FASTMLP_DATA, else the platform's cache folder. A table's relative path is tried there too.
    download : bool
        Whether missing files of a named set may be downloaded.
    **table_options
        For tables only:

        target : str or int, optional
            Name or index of the target column. Default: the last column.
        categorical : "auto" or list of str or int
            Columns of text, categories and booleans are one-hot encoded, with the categories of the
            training part; a list adds columns of numbers to those. A category first seen in the test
            part gives zeros, with a warning; missing values of the training part are a category of their own.
        drop : list of str or int
            Columns to leave out.
        index : bool, optional
            Whether the first column holds labels of the rows and is left out. Default: in a text file where
            it has no name although the others have, as pandas' ``to_csv`` writes an index.
        header : bool, optional
            Whether the first line of a text file names the columns. Default: told by the values below
            each field, with a warning where the answer is not certain.
        separator : str, optional
            What separates the fields of a text file. Default: the comma (``.tsv``: tab), or a
            semicolon, tab or bar where only that splits all lines into as many fields.
        decimal : {".", ","}, optional
            The decimal mark of a text file. Default: the point, or the comma where cells have that.
        test_size : float
            The test part's share of the rows, drawn class by class for classification. Default 0.2.
        test : path-like, optional
            A second file of the same columns as the test part, instead of a split.
        seed : int
            Seed of the split. Default 0.
        task : {"auto", "classification", "regression"}
            By default text, booleans, and integers of at most 20 distinct values (and no more than a
            tenth of the rows, or two) are classes, other numbers are regression.
        dtype : {"float32", "float64"}
            Of `X`; arrays of uint8 stay uint8. Default "float32".
        center_target : bool
            Whether `y` of regression comes less a median of it, ``preprocessing["target_offset"]``, where
            rounding to ``dtype`` would change it noticeably. Default False: `y` as it stands in the file.

    Returns
    -------
    Dataset
        Four arrays: `X` (N, features), `y` (N,) and the same for the test part, never scaled. A column
        whose values ``dtype`` would round noticeably, such as times in seconds since 1970 within one day, comes less a
        median of it (``preprocessing["columns"][i]["offset"]``); others are not centered. Missing
        numbers of a table are filled with the median of the training part; cells that
        are empty or NA, NaN, null or None count as missing. Integers keep their exact value as
        categories and class names.

    Warns
    -----
    DataWarning
        If a table's format or an index was guessed, its test part has categories that training did not see, or
        float64 loses digits of a target that is not centered.

    Raises
    ------
    DataError
        If the name is unknown, a file is missing or damaged, or an option does not fit the data.
    TypeError
        If an option does not exist, or is one of tables and the set is none.
    """
    unknown = sorted(set(table_options) - set(TABLE_OPTIONS))
    if unknown:
        raise TypeError(f"load() has no option {unknown[0]!r}; for tables it has {', '.join(TABLE_OPTIONS)}.")
    source = SOURCES.get(name) if isinstance(name, str) else None
    if source is None:
        return load_table(table_path(name, data_dir), **table_options)
    if table_options:
        raise TypeError(f"{source.name} takes no option {sorted(table_options)[0]!r}: it is for tables.")
    if source.name == "digits":
        return load_digits()
    if source.name == "cifar10":
        return load_cifar10(source, data_dir, download=download)
    return load_mnist(source, data_dir, download=download)


def table_path(name: str | os.PathLike[str], data_dir: str | os.PathLike[str] | None) -> Path:
    """The file of a table, looked for in the data folder too."""
    path = Path(os.path.expanduser(name))
    if path.suffix.lower() not in TABLE_SUFFIXES and not path.is_file():
        raise DataError(
            f"There is no data set named {str(name)!r}; known are {', '.join(SOURCES)}, and a path to a "
            f"table ({', '.join(TABLE_SUFFIXES)}) is accepted too."
        )
    if not path.exists() and data_dir is not None:
        beside = Path(os.path.expanduser(data_dir)) / path
        path = beside if beside.exists() else path
    if not path.exists():
        raise DataError(f"{path} does not exist; expected a table.")
    return path
