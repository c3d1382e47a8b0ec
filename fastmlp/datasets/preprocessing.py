"""From columns to a matrix: medians for missing numbers, one-hot columns for categories."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DataError
from .array_files import ARRAY_SUFFIXES, read_npy, read_npz
from .columns import ArrayTable, Column, FrameTable, Table, ordered_texts
from .table_files import FRAME_SUFFIXES, mistyped, read_frame

__all__ = ["apply_preprocessing", "encode", "encoded_names", "fit_columns"]

# More categories than this is an identifier or free text, and would fill the memory with zeros.
_MOST_CATEGORIES = 1000


def apply_preprocessing(frame_or_path: Any, preprocessing: dict[str, Any]) -> np.ndarray:
    """Turn new rows into the matrix that a model was trained on.

    Columns are found by name, others (the target, for one) are passed over. Where the training file did
    not name its columns they count by position, and the target's may be left out. Missing numbers get
    the training part's median; a category that training did not see gives zeros in all columns.

    Parameters
    ----------
    frame_or_path : pandas.DataFrame, ndarray of shape (N, columns), or path-like
        New rows, or a .csv, .tsv, .parquet, .npy or .npz (key ``X``) file of them.
    preprocessing : dict
        `Dataset.preprocessing` of the training data, as it was or through JSON.

    Returns
    -------
    ndarray of shape (N, features)
        float32, or float64 if the training data was loaded so.

    Raises
    ------
    DataError
        If a column is missing, holds other values than in training (text for numbers, infinities), or
        the dict is no such record.
    """
    try:
        specs = list(preprocessing["columns"])
        wanted = [spec["name"] for spec in specs]
        texts = [spec["name"] for spec in specs if spec.get("text")]
        header, dtype = bool(preprocessing["header"]), np.dtype(preprocessing["dtype"])
        every, target = list(preprocessing["all_columns"]), preprocessing["target"]
        widths = [_width(spec) for spec in specs]
        specs = [{**s, "median": float(s["median"])} if s["kind"] == "numeric" else s for s in specs]
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise DataError(f"This is not a record of preprocessing: {type(error).__name__} {error}.") from error
    table = _open(frame_or_path, header, texts)
    if not header and not hasattr(frame_or_path, "iloc"):
        bare = [name for name in every if name != target]
        names = next((names for names in (every, bare) if len(names) == len(table.names)), None)
        if names is None:
            raise DataError(
                f"{table.source} has {len(table.names)} columns, expected {len(bare)} "
                f"(or {len(every)} with the target) as in training."
            )
        position = dict(zip(names, table.names, strict=True))
    else:
        position = {name: name for name in table.names}
    absent = [name for name in wanted if name not in position]
    if absent:
        raise DataError(f"{table.source} lacks the column {absent[0]!r}; it has {_listed(table.names)}.")
    return encode(table, [{**spec, "at": position[spec["name"]]} for spec in specs], sum(widths), dtype)


def _open(frame_or_path: Any, header: bool, texts: list[str]) -> Table:
    if hasattr(frame_or_path, "iloc") and hasattr(frame_or_path, "columns"):
        return FrameTable(frame_or_path, "The frame", wide=True)
    if isinstance(frame_or_path, np.ndarray):
        if frame_or_path.ndim != 2:
            raise DataError(f"The array has shape {frame_or_path.shape}, expected (N, columns).")
        return ArrayTable(frame_or_path, "The array")
    if not isinstance(frame_or_path, (str, os.PathLike)):
        raise DataError(f"New rows are of type {type(frame_or_path).__name__}; expected a frame or a path.")
    path = Path(os.path.expanduser(frame_or_path))
    suffix = path.suffix.lower()
    if suffix in ARRAY_SUFFIXES:
        arrays = read_npz(path, ("X",)) if suffix == ".npz" else {"X": read_npy(path)}
        if "X" not in arrays:
            raise DataError(f"{path} has no array X.")
        X = arrays["X"]
        return ArrayTable(X.reshape(len(X), -1) if X.ndim > 1 else X[:, None], str(path))
    if suffix in FRAME_SUFFIXES:
        return read_frame(path, header, texts)[0]
    raise DataError(f"{path} is no table; expected a name that ends in {_listed(FRAME_SUFFIXES + ARRAY_SUFFIXES)}.")


def fit_columns(table: Table, names: list[str], categorical: Collection[str]) -> list[dict[str, Any]]:
    """Learn medians and categories from the training part.

    Parameters
    ----------
    table : Table
        The training part.
    names : list of str
        The feature columns, in order.
    categorical : collection of str
        Columns of numbers to be one-hot encoded, besides those of text and booleans.

    Returns
    -------
    list of dict
        One JSON-able record a column.

    Raises
    ------
    DataError
        If a column has no value at all, too many categories, or an infinity.
    """
    specs: list[dict[str, Any]] = []
    for name in names:
        column = table.column(name)
        missing = column.missing()
        if missing.all():
            raise DataError(f"{column.label} has no value in the training part; drop it or fill it.")
        if column.kind in ("number", "integer") and name not in categorical:
            _check_finite(column)
            median = float(np.median(column.values[~missing]))
            specs.append({"name": name, "kind": "numeric", "median": median, "missing": bool(missing.any())})
            continue
        categories = ordered_texts([text for text in column.texts() if text is not None])
        if len(categories) > _MOST_CATEGORIES:
            odd = mistyped(categories)
            if odd:
                raise DataError(f"{column.label} has {len(odd)} values that are no numbers, {odd[0][:40]!r} for one.")
            raise DataError(
                f"{column.label} has {len(categories)} categories, at most {_MOST_CATEGORIES} are one-hot "
                "encoded; leave it out with drop=."
            )
        specs.append(
            {
                "name": name,
                "kind": "categorical",
                "categories": categories,
                "missing": bool(missing.any()),
                "text": column.kind == "text",
            }
        )
    return specs


def encode(table: Table, specs: list[dict[str, Any]], width: int | None, dtype: np.dtype[Any]) -> np.ndarray:
    """The matrix of a table by the records of its columns.

    Parameters
    ----------
    table : Table
    specs : list of dict
        What `fit_columns` learnt; an entry ``at`` names the table's column where it differs.
    width : int or None
        Features in all; None to count them.
    dtype : dtype
        float32 or float64.

    Returns
    -------
    ndarray of shape (len(table), width)

    Raises
    ------
    DataError
        If a column of numbers holds text, an infinity, or a number too large for `dtype`.
    """
    out = np.zeros((len(table), width if width is not None else sum(map(_width, specs))), dtype)
    start = 0
    for spec in specs:
        column = table.column(spec.get("at", spec["name"]))
        if spec["kind"] == "numeric":
            out[:, start] = _numbers(column, spec["median"], dtype)
        else:
            index = {text: place for place, text in enumerate(spec["categories"])}
            if spec["missing"]:
                index[None] = len(index)
            texts = column.texts()
            if not spec["text"]:  # booleans read as text for want of a clean column
                texts = [_spelled(text) for text in texts]
            places = np.fromiter((index.get(text, -1) for text in texts), np.int64, len(texts))
            known = np.flatnonzero(places >= 0)
            out[known, start + places[known]] = 1
        start += _width(spec)
    return out


def encoded_names(specs: list[dict[str, Any]]) -> tuple[str, ...]:
    """Feature names: a column's own, or ``column=category`` (``column=<missing>``)."""
    names: list[str] = []
    for spec in specs:
        if spec["kind"] == "numeric":
            names.append(spec["name"])
        else:
            names += [f"{spec['name']}={category}" for category in spec["categories"]]
            names += [f"{spec['name']}=<missing>"] * spec["missing"]
    return tuple(names)


def _width(spec: dict[str, Any]) -> int:
    return 1 if spec["kind"] == "numeric" else len(spec["categories"]) + bool(spec["missing"])


def _numbers(column: Column, median: float, dtype: np.dtype[Any]) -> np.ndarray:
    if column.kind in ("bool", "text"):
        seen = next((text for text in column.values if text is not None), None)
        if seen is not None:
            raise DataError(f"{column.label} holds {seen[:40]!r}, expected numbers as in training.")
        return np.full(len(column.values), median, dtype)
    _check_finite(column)
    values = np.where(np.isnan(column.values), median, column.values)
    largest = float(np.finfo(dtype).max)
    if len(values) and np.abs(values).max() > largest:
        raise DataError(
            f"{column.label} holds {values[np.abs(values).argmax()]:g}, too large for {dtype}; "
            "scale the column or load with dtype='float64'."
        )
    return values.astype(dtype)


def _check_finite(column: Column) -> None:
    infinite = np.isinf(column.values)
    if infinite.any():
        raise DataError(
            f"{column.label} holds {column.values[infinite][0]} ({int(infinite.sum())} such rows); "
            "expected finite numbers or empty cells."
        )


def _spelled(text: str | None) -> str | None:
    return text.capitalize() if text is not None and text.lower() in ("true", "false") else text


def _listed(names: Collection[str]) -> str:
    shown = ", ".join(list(names)[:20])
    return shown + (", ..." if len(names) > 20 else "")
