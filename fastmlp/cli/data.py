"""Data sets of the commands: options, loading, and descriptions for the console."""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .._common.errors import DataError, DataWarning
from ..datasets import Dataset, available, load
from ..datasets.dialect import SEPARATORS, is_number, non_numeric
from ..datasets.evaluation import load_as_trained, load_labeled
from ..datasets.loading import table_path
from ..datasets.pack_cache import is_large, load_mapped
from ..datasets.packed import is_packed, open_packed
from ..modules import Module
from .options import NOTE, UsageError, as_options
from .runs import Saved

__all__ = [
    "DATA_OPTIONS",
    "check_data_options",
    "check_test_rows",
    "data_options",
    "describe_columns",
    "fingerprint",
    "is_named",
    "load_labeled_rows",
    "load_run_data",
    "load_data",
    "merge_options",
    "packed_as_trained",
    "print_data_warnings",
    "reject_table_options",
    "require_no_split",
    "targets_digest",
    "with_table_format",
]

_FORMAT_OPTIONS = ("target", "test", "test_size", "task", "header", "separator", "decimal")
_TABLE_OPTIONS = (*_FORMAT_OPTIONS, "drop", "index")
DATA_OPTIONS = ("dataset", "data_dir", *_TABLE_OPTIONS)


def is_named(dataset: str) -> bool:
    """Return whether ``dataset`` is the name of a data set, not a file."""
    return dataset in available()


def data_options(args: argparse.Namespace) -> dict[str, Any]:
    """Return the data options of a command, with absolute file names so that they are valid in other folders."""
    return check_data_options({key: getattr(args, key, None) for key in DATA_OPTIONS})


def check_data_options(options: dict[str, Any]) -> dict[str, Any]:
    """Return the options with absolute file names; raise `UsageError` if options exclude each other."""
    if is_named(options["dataset"]):
        reject_table_options(options["dataset"], {key: options[key] for key in _TABLE_OPTIONS})
    elif options["test"] is not None and options["test_size"] is not None:
        raise UsageError("--test and --test-size exclude each other.")
    elif is_packed(Path(options["dataset"])):
        reject_table_options(options["dataset"], {key: options[key] for key in _TABLE_OPTIONS})
        options["dataset"] = os.path.abspath(options["dataset"])
    elif os.path.exists(options["dataset"]):
        options["dataset"] = os.path.abspath(options["dataset"])
        target = options["target"]
        if target is not None and target.lower().endswith(".npy") and os.path.exists(target):
            options["target"] = os.path.abspath(target)
    for key in ("data_dir", "test"):
        if options[key] is not None:
            options[key] = os.path.abspath(os.path.expanduser(options[key]))
    return options


def merge_options(args: argparse.Namespace, recorded: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the data options that are given, and those of a run changed by them."""
    changed = {key: value for key in DATA_OPTIONS if (value := getattr(args, key, None)) is not None}
    options = {**dict.fromkeys(DATA_OPTIONS), **recorded}
    if "test" in changed or "test_size" in changed:  # the two exclude each other
        options |= {"test": None, "test_size": None}
    return changed, check_data_options({**options, **changed})


def require_no_split(args: argparse.Namespace) -> None:
    """Raise `UsageError` if options of a split are given with the file of --dataset."""
    given = next((key for key in ("test", "test_size") if getattr(args, key) is not None), None)
    if given is not None:
        option = given.replace("_", "-")
        raise UsageError(f"--{option} cannot be combined with --dataset FILE, which evaluates all rows of the file.")


def reject_table_options(dataset: str, options: Mapping[str, Any]) -> None:
    """Raise `UsageError` if options of tables are given for a named data set or a packed folder."""
    given = next((key for key, value in options.items() if value is not None), None)
    if given is not None:
        name = f"no-{given}" if options[given] is False else given.replace("_", "-")
        raise UsageError(f"--{name} applies to tables only; leave it out for {dataset}.")


@contextlib.contextmanager
def print_data_warnings() -> Iterator[None]:
    """Print each distinct `DataWarning` of the block as one line on standard error; pass other warnings on."""
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
    """Load the data set of `data_options`, to train a model of ``dtype``."""
    if is_named(options["dataset"]):
        return load(options["dataset"], data_dir=options.get("data_dir"))
    table = {key: options[key] for key in _TABLE_OPTIONS if options.get(key) is not None}
    path = table_path(options["dataset"], options.get("data_dir"))
    with print_data_warnings():
        if is_large(path, options.get("test")):
            return load_mapped(path, announce=_print_note, dtype=dtype, **table)
        return load(path, dtype=dtype, center_target=True, **table)


def _print_note(text: str) -> None:
    """Print a note before work that takes long."""
    print(f"{NOTE}{text}", file=sys.stderr, flush=True)


def with_table_format(options: dict[str, Any], record: dict[str, Any] | None) -> dict[str, Any]:
    """Add the detected format of a table, from its record, to the options of a run, for later commands."""
    if record is None or Path(options["dataset"]).suffix.lower() not in SEPARATORS:
        return options
    found = {key: record[key] for key in ("header", "separator", "decimal")}
    names = [spec["name"] for spec in record["columns"]]
    first = record["all_columns"][0]
    dropped_index = first not in (*names, record["target"]) and first not in (options["drop"] or ())
    return {**options, **found, "index": dropped_index}


def load_run_data(options: Mapping[str, Any], saved: Saved) -> Dataset:
    """Load the data set of a run, encoded with the run's saved preprocessing."""
    if is_named(options["dataset"]):
        return load(options["dataset"], data_dir=options.get("data_dir"))
    table_format = {key: options[key] for key in _FORMAT_OPTIONS if options.get(key) is not None}
    path = table_path(options["dataset"], options.get("data_dir"))
    if is_packed(path):
        return packed_as_trained(path, saved)
    if is_large(path, options.get("test")):
        record = saved.preprocessing or {}
        data = load_data(options, record.get("dtype", "float32"))
        if _is_as_trained(data, saved):
            return data
    with print_data_warnings():
        return load_as_trained(path, classes=labels_of(saved.model), preprocessing=saved.preprocessing, **table_format)


def packed_as_trained(folder: Path, saved: Saved) -> Dataset:
    """Open a packed folder; raise DataError if its features or classes are not those of a model."""
    data = open_packed(folder)
    if not _is_as_trained(data, saved):
        what = "classes" if data.preprocessing == saved.preprocessing else "preprocessing"
        raise DataError(
            f"{folder} was packed with another {what} than that of the model; expected the folder of its training, or "
            "the table itself."
        )
    return data


def _is_as_trained(data: Dataset, saved: Saved) -> bool:
    """Return whether features and classes are those of a model."""
    classes = None if data.classes is None else list(data.classes)
    return (data.preprocessing, classes) == (saved.preprocessing, labels_of(saved.model))


def load_labeled_rows(path: str, options: Mapping[str, Any], saved: Saved) -> tuple[np.ndarray, np.ndarray]:
    """Return (X, y) of all rows of a table, encoded like the training data of the model.

    An ``.npz`` file with test arrays and a packed folder yield these.
    """
    file = Path(os.path.expanduser(path))
    if is_packed(file):
        reject_table_options(path, {key: options.get(key) for key in _TABLE_OPTIONS})
        return packed_as_trained(file, saved)[2:]
    if not file.exists():
        raise DataError(f"{path or repr(path)} does not exist; expected a table, or one of {', '.join(available())}.")
    with print_data_warnings():
        return load_labeled(file, classes=labels_of(saved.model), preprocessing=saved.preprocessing, **options)


def labels_of(model: Module) -> list[str] | None:
    """Return the labels of a model as text, by default the numbers of its outputs; None for regression."""
    if model.task == "regression":
        return None
    if model.classes is None:
        return [str(label) for label in range(2 if model.task == "binary" else model.out_width or 0)]
    return [str(int(c)) if isinstance(c, float) and c.is_integer() else str(c) for c in model.classes]


def fingerprint(data: Dataset) -> str:
    """Return the SHA-256 of the shapes, dtypes and contents of the four arrays, or the digest of a packed folder."""
    if data.digest is not None:
        return data.digest
    digest = hashlib.sha256()
    for array in data:
        digest.update(f"{array.shape} {array.dtype.str};".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def targets_digest(y: np.ndarray, y_test: np.ndarray, classes: Sequence[str] | None) -> str:
    """Return the SHA-256 of the targets of both parts: labels, class indices or numbers."""
    digest = hashlib.sha256()
    for targets in (y, y_test):
        if classes is None:
            targets = targets.astype(np.float64)
        elif targets.dtype.kind == "U":
            place = {label: number for number, label in enumerate(classes)}
            targets = np.array([place[label] for label in targets.tolist()], np.int64)
        digest.update(np.ascontiguousarray(targets).data)
        digest.update(str(len(targets)).encode())
    return digest.hexdigest()


def check_test_rows(name: str, y: np.ndarray, y_test: np.ndarray, classes: Sequence[str] | None) -> None:
    """Raise `DataError` if there are no test rows, with the likely reason."""
    if len(y_test):
        return
    classes = classes or ()
    if len(classes) == len(y) and sum(map(is_number, classes)) > len(classes) / 2:
        text = non_numeric(classes)
        hint = f", as {text[0][:40]!r} is not a number" if text else "; expected --task regression"
        raise DataError(f"{name} has a class for each of its {len(y)} rows{hint}.")
    raise DataError(f"{name} has {len(y)} rows, too few to hold out test rows; expected more rows, or --test FILE.")


def describe_columns(data: Dataset) -> list[str]:
    """Describe the conversion of a table's columns in lines for the heading of a run.

    A mistyped number turns a column into text, which would otherwise go unnoticed.
    """
    record = data.preprocessing or {}
    specs = record.get("columns", [])
    texts = [spec for spec in specs if spec["kind"] == "categorical"]
    gaps = [spec["name"] for spec in specs if spec["kind"] == "numeric" and spec["missing"]]
    centered = [f"{spec['name']} (minus {spec['offset']})" for spec in specs if spec.get("offset")]
    if "target_offset" in record:
        centered.append(f"the target (minus {record['target_offset']})")
    lines = []
    if record.get("separator") is not None and not record["header"]:
        lines.append(f"header     none; the columns are named {_abbreviate(record['all_columns'])}")
    if texts:
        counts = [f"{spec['name']} ({len(spec['categories'])})" for spec in texts]
        lines.append(f"text       {_abbreviate(counts)}: one-hot encoded")
    if gaps:
        lines.append(f"missing    values of {_abbreviate(gaps)}: replaced by the column's median")
    if centered:
        lines.append(f"centered   {_abbreviate(centered)}: {record['dtype']} would lose digits")
    for spec in texts:
        odd = non_numeric(spec["categories"])
        if spec["text"] and odd:
            lines.append(
                f"note       {spec['name']} is read as text because of "
                f"{_abbreviate([repr(text[:20]) for text in odd])}; its other values are numbers"
            )
    return lines


def _abbreviate(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
