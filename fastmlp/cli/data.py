"""Data sets as the commands name them."""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import sys
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .._common.errors import DataError, DataWarning
from ..datasets import Dataset, available, load
from ..datasets.dialect import SEPARATORS, non_numeric
from ..datasets.evaluation import load_as_trained, load_labeled
from ..datasets.loading import table_path
from ..modules import Module
from .options import NOTE, UsageError, as_options
from .runs import Saved

__all__ = [
    "DATA_OPTIONS",
    "checked",
    "data_options",
    "described_columns",
    "fingerprint",
    "is_named",
    "labelled_rows",
    "load_again",
    "load_data",
    "printed_notes",
    "refuse_for_named",
    "settled",
]

_READING = ("target", "test", "test_size", "task", "header", "separator", "decimal")
_TABLE_OPTIONS = (*_READING, "drop", "index")
DATA_OPTIONS = ("dataset", "data_dir", *_TABLE_OPTIONS)


def is_named(dataset: str) -> bool:
    """Whether it is one of the named sets, not a file."""
    return dataset in available()


def data_options(args: argparse.Namespace) -> dict[str, Any]:
    """The options of a command that say which data; file names made absolute, to be valid elsewhere too."""
    return checked({key: getattr(args, key, None) for key in DATA_OPTIONS})


def checked(options: dict[str, Any]) -> dict[str, Any]:
    """The same options, if they fit each other, with absolute names."""
    if is_named(options["dataset"]):
        refuse_for_named(options["dataset"], {key: options[key] for key in _TABLE_OPTIONS})
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


def refuse_for_named(dataset: str, options: Mapping[str, Any]) -> None:
    """Refuse options of tables beside a named set."""
    given = next((key for key, value in options.items() if value is not None), None)
    if given is not None:
        name = f"no-{given}" if options[given] is False else given.replace("_", "-")
        raise UsageError(f"--{name} is for tables; {dataset} takes none.")


@contextlib.contextmanager
def printed_notes() -> Iterator[None]:
    """Print each `DataWarning` about data that is read as one line on standard error, once; pass others on."""
    caught: list[warnings.WarningMessage] = []
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", DataWarning)
            yield
    finally:
        for other in caught:
            if not issubclass(other.category, DataWarning):
                warnings.warn_explicit(other.message, other.category, other.filename, other.lineno)
        texts = [str(warning.message) for warning in caught if issubclass(warning.category, DataWarning)]
        for text in dict.fromkeys(texts):
            print(f"{NOTE}{as_options(text)}", file=sys.stderr)


def load_data(options: Mapping[str, Any], dtype: str = "float32") -> Dataset:
    """The data set of `data_options`, for a model of ``dtype`` to be trained on."""
    if is_named(options["dataset"]):
        return load(options["dataset"], data_dir=options.get("data_dir"))
    table = {key: options[key] for key in _TABLE_OPTIONS if options.get(key) is not None}
    with printed_notes():
        return load(options["dataset"], data_dir=options.get("data_dir"), dtype=dtype, center_target=True, **table)


def settled(options: dict[str, Any], data: Dataset) -> dict[str, Any]:
    """The options of a run with those that were guessed from its table, so that nothing is guessed anew."""
    record = data.preprocessing
    if record is None or Path(options["dataset"]).suffix.lower() not in SEPARATORS:
        return options
    found = {key: record[key] for key in ("header", "separator", "decimal")}
    names = [spec["name"] for spec in record["columns"]]
    first = record["all_columns"][0]
    left_out = first not in (*names, record["target"]) and first not in (options["drop"] or ())
    return {**options, **found, "index": left_out}


def load_again(options: Mapping[str, Any], saved: Saved) -> Dataset:
    """The data set that a run was trained on, encoded by what the run has learnt from it."""
    if is_named(options["dataset"]):
        return load(options["dataset"], data_dir=options.get("data_dir"))
    reading = {key: options[key] for key in _READING if options.get(key) is not None}
    path = table_path(options["dataset"], options.get("data_dir"))
    with printed_notes():
        return load_as_trained(path, classes=labels_of(saved.model), preprocessing=saved.preprocessing, **reading)


def labelled_rows(path: str, options: Mapping[str, Any], saved: Saved) -> tuple[np.ndarray, np.ndarray]:
    """(X, y) of a whole table, as the model takes them: encoded and numbered as its training data was.

    Of an ``.npz`` file with a test part of its own, that part.
    """
    file = Path(os.path.expanduser(path))
    if not file.is_file():
        seen = "is not a file" if file.exists() else "does not exist"
        raise DataError(f"{path or repr(path)} {seen}; expected a table, or one of {', '.join(available())}.")
    with printed_notes():
        return load_labeled(file, classes=labels_of(saved.model), preprocessing=saved.preprocessing, **options)


def labels_of(model: Module) -> list[str] | None:
    """The texts of a model's labels, by default its outputs' numbers; None for regression."""
    if model.task == "regression":
        return None
    if model.classes is None:
        return [str(label) for label in range(2 if model.task == "binary" else model.out_width or 0)]
    return [str(int(c)) if isinstance(c, float) and c.is_integer() else str(c) for c in model.classes]


def fingerprint(data: Dataset) -> str:
    """SHA-256 over shapes, dtypes and contents of the four arrays."""
    digest = hashlib.sha256()
    for array in data:
        digest.update(f"{array.shape} {array.dtype.str};".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def described_columns(data: Dataset) -> list[str]:
    """What became of a table's columns, in lines for the heading: a mistyped number makes a column one of text."""
    record = data.preprocessing or {}
    specs = record.get("columns", [])
    texts = [spec for spec in specs if spec["kind"] == "categorical"]
    gaps = [spec["name"] for spec in specs if spec["kind"] == "numeric" and spec["missing"]]
    centered = [f"{spec['name']} (less {spec['offset']})" for spec in specs if spec.get("offset")]
    if "target_offset" in record:
        centered.append(f"the target (less {record['target_offset']})")
    lines = []
    if record.get("separator") is not None and not record["header"]:
        lines.append(f"header     none: the columns are {_some(record['all_columns'])}")
    if texts:
        counts = [f"{spec['name']} ({len(spec['categories'])})" for spec in texts]
        lines.append(f"text       {_some(counts)}: a feature for each value")
    if gaps:
        lines.append(f"missing    values of {_some(gaps)}: filled with the column's median")
    if centered:
        lines.append(f"centered   {_some(centered)}: {record['dtype']} would lose digits")
    for spec in texts:
        odd = non_numeric(spec["categories"])
        if spec["text"] and odd:
            lines.append(
                f"note       {spec['name']} is taken for text because of {_some([repr(text[:20]) for text in odd])}: "
                "its other values are numbers"
            )
    return lines


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
