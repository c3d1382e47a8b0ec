"""Data sets as the commands name them."""

from __future__ import annotations

import argparse
import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..datasets import Dataset, apply_preprocessing, available, load
from ..datasets.array_files import read_npz
from ..datasets.table_files import mistyped
from ..errors import DataError
from ..modules import Module
from .options import UsageError

__all__ = [
    "DATA_OPTIONS",
    "checked",
    "data_options",
    "described_columns",
    "fingerprint",
    "is_named",
    "labelled_rows",
    "load_data",
]

_TABLE_OPTIONS = ("target", "test", "test_size", "task")
DATA_OPTIONS = ("dataset", "data_dir", *_TABLE_OPTIONS)


def is_named(dataset: str) -> bool:
    """Whether it is one of the named sets, not a file."""
    return dataset in available()


def data_options(args: argparse.Namespace) -> dict[str, Any]:
    """The options of a command that say which data; file names made absolute, to be valid elsewhere too."""
    return checked({key: getattr(args, key) for key in DATA_OPTIONS})


def checked(options: dict[str, Any]) -> dict[str, Any]:
    """The same options, if they fit each other, with absolute names."""
    if is_named(options["dataset"]):
        given = next((key for key in _TABLE_OPTIONS if options[key] is not None), None)
        if given is not None:
            raise UsageError(f"--{given.replace('_', '-')} is for tables; {options['dataset']} takes none.")
    elif options["test"] is not None and options["test_size"] is not None:
        raise UsageError("--test and --test-size exclude each other.")
    elif os.path.exists(options["dataset"]):
        options["dataset"] = os.path.abspath(options["dataset"])
        target = options["target"]
        if target is not None and target.lower().endswith(".npy") and os.path.exists(target):
            options["target"] = os.path.abspath(target)
    for key in ("data_dir", "test"):
        if options[key] is not None:
            options[key] = os.path.abspath(os.path.expanduser(options[key]))
    return options


def load_data(options: Mapping[str, Any]) -> Dataset:
    """The data set of `data_options`."""
    table = {key: options[key] for key in _TABLE_OPTIONS if options.get(key) is not None}
    return load(options["dataset"], data_dir=options.get("data_dir"), **table)


def labelled_rows(path: str, target: str | None, model: Module, preprocessing: dict[str, Any] | None) -> Any:
    """(X, y) of a whole table, as the model takes them: encoded and numbered as its training data was.

    Of an ``.npz`` file with a test part of its own, that part.
    """
    file = Path(os.path.expanduser(path))
    if not file.is_file():
        seen = "is not a file" if file.exists() else "does not exist"
        raise DataError(f"{path or repr(path)} {seen}; expected a table, or one of {', '.join(available())}.")
    known: dict[str, Any] = {"task": "regression" if model.task == "regression" else "classification"}
    if target is not None:
        known["target"] = target
    elif preprocessing is not None and preprocessing.get("target") is not None:
        known["target"] = preprocessing["target"]
    if preprocessing is not None and file.suffix.lower() in (".csv", ".tsv"):
        known["header"] = bool(preprocessing["header"])
    own_test = file.suffix.lower() == ".npz" and "X_test" in read_npz(file, ("X_test",))
    # Given as its own test part, a table is not split.
    data = load(path, test=None if own_test else path, **known)
    X, y = data.X_test, data.y_test
    if preprocessing is not None:
        X = apply_preprocessing(_matrix(file) if own_test else file, preprocessing)
    if data.classes is not None and model.classes is not None:
        place = {str(label): index for index, label in enumerate(model.classes)}
        unknown = [label for label in data.classes if label not in place]
        if unknown:
            raise DataError(f"{path} has the label {unknown[0]!r}, which the model was not trained on.")
        y = np.array([place[label] for label in data.classes], np.int64)[y]
    return X, y


def _matrix(file: Path) -> np.ndarray:
    """The test part of an ``.npz`` file."""
    X = read_npz(file, ("X_test",))["X_test"]
    return X.reshape(len(X), -1)


def fingerprint(data: Dataset) -> str:
    """SHA-256 over shapes, dtypes and contents of the four arrays."""
    digest = hashlib.sha256()
    for array in data:
        digest.update(f"{array.shape} {array.dtype.str};".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def described_columns(data: Dataset) -> list[str]:
    """What became of a table's columns, in lines for the heading: a mistyped number makes a column one of text."""
    specs = (data.preprocessing or {}).get("columns", [])
    texts = [spec for spec in specs if spec["kind"] == "categorical"]
    gaps = [spec["name"] for spec in specs if spec["kind"] == "numeric" and spec["missing"]]
    lines = []
    if texts:
        counts = [f"{spec['name']} ({len(spec['categories'])})" for spec in texts]
        lines.append(f"text       {_some(counts)}: a feature for each value")
    if gaps:
        lines.append(f"missing    values of {_some(gaps)}: filled with the column's median")
    for spec in texts:
        odd = mistyped(spec["categories"])
        if spec["text"] and odd:
            lines.append(
                f"note       {spec['name']} is taken for text because of {_some([repr(text[:20]) for text in odd])}: "
                "its other values are numbers"
            )
    return lines


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
