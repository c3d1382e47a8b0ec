"""Loading of data sets by name or path."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from .._common.errors import DataError
from .cifar10 import load_cifar10
from .dataset import Dataset
from .digits import load_digits
from .mnist import load_mnist
from .pack_cache import load_mapped
from .packed import is_packed, open_packed
from .registry import SOURCES
from .table import TABLE_OPTIONS, TABLE_SUFFIXES, load_table

__all__ = ["available", "load", "table_path"]


def available() -> tuple[str, ...]:
    """Return the names of the data sets that `load` knows.

    Returns
    -------
    tuple of str

    Examples
    --------
    >>> import fastmlp as fm
    >>> fm.datasets.available()
    ('digits', 'cifar10', 'mnist', 'fashion-mnist')
    """
    return tuple(SOURCES)


def load(
    name: str | os.PathLike[str],
    *,
    data_dir: str | os.PathLike[str] | None = None,
    download: bool = True,
    mapped: bool = False,
    **table_options: Any,
) -> Dataset:
    """Load a data set as ``X, y, X_test, y_test``.

    Parameters
    ----------
    name : str or path-like
        ``"digits"`` (included in the package), ``"cifar10"``, ``"mnist"``, ``"fashion-mnist"``, or the path of a table:

        - ``.csv``, ``.tsv`` or ``.parquet``, which need the extra ``tables``
        - ``.npz`` with the arrays ``X``, ``y`` and optionally ``X_test``, ``y_test``
        - ``.npy`` with the features; the targets are in the file ``target="labels.npy"``, or in ``<stem>_y.npy``
          beside ``<stem>_X.npy``
        - a folder of such files of one kind, which are read in the order of their names, as by `pack`
        - a folder that `pack` wrote, whose arrays are mapped
    data_dir : path-like, optional
        Folder of the files of a named set, and of tables with a relative path. Default: the environment variable
        FASTMLP_DATA, else the cache folder of the platform.
    download : bool
        Whether missing files of a named set may be downloaded.
    mapped : bool
        Whether to pack a table (see `pack`) into the folder ``packed`` beside the downloaded sets, unless it is there
        already, and to map its arrays. Memory then does not limit its size. Targets are centered as with
        ``center_target=True``. A table is packed again after a change of its files.
    **table_options
        For tables only:

        target : str or int, optional
            Name or index of the target column. Default: the last column.
        categorical : "auto" or list of str or int
            Numeric columns to encode as one-hot, in addition to those of texts, categories and booleans. The
            categories are those of the training part; missing values are a category of their own if the training part
            has some. A category that occurs in the test part only gives zeros, with a warning.
        drop : list of str or int
            Columns to leave out.
        index : bool, optional
            Whether the first column contains row labels, which are left out. Default: True for a text file in which
            only the first column has no name, as written by pandas' ``to_csv``.
        header : bool, optional
            Whether the first line of a text file names the columns. Default: detected by comparison with the lines
            below, with a warning if the result is uncertain.
        separator : str, optional
            Separator of the fields of a text file. Default: the comma (``.tsv``: tab), or the semicolon, tab or bar if
            only that character splits all lines into equally many fields.
        decimal : {".", ","}, optional
            Decimal mark of a text file. Default: detected.
        test_size : float
            Share of the test part, stratified by class for classification. Default 0.2.
        test : path-like, optional
            File of the test part with the same columns, instead of a split.
        seed : int
            Seed of the split. Default 0.
        task : {"auto", "classification", "regression"}
            "auto" is classification for a target of texts or booleans, or of integers with at most 20 distinct values
            that have at least 10 rows on average (two values always qualify). Otherwise it is regression.
        dtype : {"float32", "float64"}
            Dtype of `X`; uint8 arrays stay uint8. Default "float32".
        center_target : bool
            Whether to subtract a median (``preprocessing["target_offset"]``) from the target of regression if rounding
            to ``dtype`` would change it noticeably. Default False.

    Returns
    -------
    Dataset
        `X` (N, features), `y` (N,) and the same for the test part. Values are not scaled. A median
        (``preprocessing["columns"][i]["offset"]``) is subtracted from columns that rounding to ``dtype`` would change
        noticeably, such as times in seconds since 1970. Missing numbers are replaced by the median of the training
        part; empty cells and NA, NaN, null or None are missing. Integers keep their exact value as categories and class
        names.

    Warns
    -----
    DataWarning
        If the format of a table or an index was guessed, if the test part has categories that the training part lacks,
        or if float64 loses digits of a target that is not centered.

    Raises
    ------
    DataError
        If the name is unknown, a file is missing or damaged, or an option does not fit the data.
    TypeError
        If an option does not exist, or an option of tables is given for a named set.

    Examples
    --------
    >>> import fastmlp as fm
    >>> X, y, X_test, y_test = fm.load("digits")
    >>> X.shape, X_test.shape
    ((1437, 64), (360, 64))
    """
    unknown = sorted(set(table_options) - set(TABLE_OPTIONS))
    if unknown:
        raise TypeError(f"load() has no option {unknown[0]!r}; for tables it has {', '.join(TABLE_OPTIONS)}.")
    source = SOURCES.get(name) if isinstance(name, str) else None
    if source is None:
        path = table_path(name, data_dir)
        if not is_packed(path) and mapped:
            return _load_mapped(path, table_options)
        if not is_packed(path):
            return load_table(path, **table_options)
        chosen = sorted(set(table_options) - {"dtype", "center_target"})
        if chosen:
            raise TypeError(f"{path} was packed with its options; expected no {chosen[0]}=, or another packed folder.")
        return open_packed(path)
    if table_options:
        raise TypeError(f"{source.name} takes no option {sorted(table_options)[0]!r}: it is for tables.")
    if mapped:
        raise TypeError(
            f"mapped=True is for tables; expected mapped=False for {source.name}, which is read into memory."
        )
    if source.name == "digits":
        return load_digits()
    if source.name == "cifar10":
        return load_cifar10(source, data_dir, download=download)
    return load_mnist(source, data_dir, download=download)


def _load_mapped(path: Path, options: dict[str, Any]) -> Dataset:
    if options.get("center_target") is False:
        raise TypeError("mapped=True centers targets; expected no center_target=False, or mapped=False.")
    return load_mapped(path, **{key: value for key, value in options.items() if key != "center_target"})


def table_path(name: str | os.PathLike[str], data_dir: str | os.PathLike[str] | None) -> Path:
    """Return the path of a table, which may be relative to the data folder."""
    path = Path(os.path.expanduser(name))
    if path.suffix.lower() not in TABLE_SUFFIXES and not path.exists():
        raise DataError(
            f"There is no data set named {str(name)!r}; known are {', '.join(SOURCES)}, and a path to a "
            f"table ({', '.join(TABLE_SUFFIXES)}) or a folder of tables is accepted too."
        )
    if not path.exists() and data_dir is not None:
        beside = Path(os.path.expanduser(data_dir)) / path
        path = beside if beside.exists() else path
    if not path.exists():
        raise DataError(f"{path} does not exist; expected a table.")
    return path
