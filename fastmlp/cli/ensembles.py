"""Saved ensembles for tables in the commands: their rows, predictions and measures."""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import importlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .._common.errors import DataError, ModelFileError
from .._common.validation import Array
from .._kernels import use_backend
from ..datasets.loading import table_path
from ..datasets.mixed import MixedTable, has_mixed_columns, iterate_frames, load_mixed
from ..datasets.packed import is_packed
from ..modules.saving import find_model
from ..training.evaluation import R2
from .console import format_metric
from .data import DATA_OPTIONS, is_named, print_data_warnings, targets_digest
from .options import UsageError
from .runs import CONFIG, read_config

__all__ = ["SavedEnsemble", "data_errors", "describe_measures", "measure", "refuse_backend", "rows_digest"]

_BLOCK = 1 << 14  # rows that are encoded at once: the code has many columns
_UNKNOWN, _TOO_MANY = 0.9, 10  # share and number of unknown categories of a column that are an error


@contextlib.contextmanager
def data_errors(source: str) -> Iterator[None]:
    """Add the name of the table to errors of the encoder about its columns."""
    try:
        yield
    except DataError:
        raise
    except OverflowError as error:
        raise DataError(f"{source} holds an integer too large for float64; expected at most 1.8e308.") from error
    except (TypeError, ValueError) as error:
        raise DataError(f"{source}: {error}") from error


class SavedEnsemble:
    """Saved TabularClassifier or TabularRegressor, with the description of its table.

    Attributes
    ----------
    path : Path
    estimator : TabularClassifier or TabularRegressor
    record : dict
        See `MixedTable`.
    classes : list of str or None
        Labels as texts; None for regression.
    config : dict or None
        Content of config.json if the file is in a run folder.
    """

    def __init__(self, run_or_model: str) -> None:
        self.path = find_model(run_or_model)
        # Imports scikit-learn.
        loading, saving = (importlib.import_module(f"fastmlp.tabular.{name}") for name in ("loading", "saving"))
        with use_backend("numpy"):  # predictions are those of compiled kernels
            self.estimator = loading.load_estimator(self.path)
        info = saving.ensemble_info(self.path)
        config = self.path.parent / CONFIG
        self.config = read_config(config) if config.is_file() else None
        labels = getattr(self.estimator, "classes_", None)
        self.classes = None if labels is None else [str(label) for label in labels]
        self.record: dict[str, Any] = info.get("preprocessing") or self._plain_record()

    def _plain_record(self) -> dict[str, Any]:
        """Return the record of an estimator that was saved by a program, whose columns have names."""
        if not hasattr(self.estimator, "feature_names_in_"):
            raise ModelFileError(
                f"{self.path} was trained on columns without names; expected one of fastmlp train, or of a data frame."
            )
        encodings = zip(self.estimator.feature_names_in_, self.estimator.encoder_.encodings_, strict=True)
        columns = [{"name": str(name), "text": one.kind == "category", "date": False} for name, one in encodings]
        names = [spec["name"] for spec in columns]
        return {"columns": columns, "all_columns": names, "target": None, "header": True}

    def predict(self, X: Any) -> Array:
        """Return probabilities (N, classes), or values (N,), of a frame."""
        of_rows = self.estimator.predict if self.classes is None else self.estimator.predict_proba
        parts = [of_rows(X.iloc[start : start + _BLOCK]) for start in range(0, len(X), _BLOCK)]
        found: Array = np.concatenate(parts)
        return found

    def frames(
        self, file: str, options: Mapping[str, Any], *, labeled: bool = True
    ) -> Iterator[tuple[Any, Array | None]]:
        """Yield (features, targets) of a table; raise DataError for columns of nearly only unknown categories."""
        if is_named(file) or is_packed(Path(file)):
            raise DataError(
                f"{file} has no columns; expected a table with those of the training, in .csv, .tsv or .parquet."
            )
        if not os.path.exists(os.path.expanduser(file)):
            raise DataError(f"{file or repr(file)} does not exist; expected a table.")
        unknown = _Unknown(self.estimator.encoder_)
        for X, y in iterate_frames(file, self.record, self.classes, labeled=labeled, **options):
            unknown.add(X)
            yield X, y
        unknown.report(file)

    def load_run(self, options: Mapping[str, Any]) -> MixedTable:
        """Read the table of a run again."""
        reading = {key: options[key] for key in DATA_OPTIONS[2:] if options.get(key) is not None}
        for key in ("drop", "index"):
            reading.pop(key, None)
        path = table_path(options["dataset"], options.get("data_dir"))
        if is_named(options["dataset"]) or is_packed(path) or not has_mixed_columns(path):
            raise DataError(f"{path} is no table of columns; expected a .csv, .tsv or .parquet file.")
        reading["task"] = "regression" if self.classes is None else "classification"
        with print_data_warnings():
            return load_mixed(path, record=self.record, **reading)


class _Unknown:
    """Categories of new rows that training did not see."""

    def __init__(self, encoder: Any) -> None:
        pairs = zip(encoder.feature_names_in_, encoder.encodings_, strict=True)
        self._levels = {str(name): set(one.levels) for name, one in pairs if one.kind == "category" and one.levels}
        self._counts = {name: [0, 0] for name in self._levels}
        self._examples: dict[str, str] = {}

    def add(self, X: Any) -> None:
        """Count the categories of some rows."""
        for name, levels in self._levels.items():
            counts = X[name].value_counts()
            for value, count in zip(counts.index.tolist(), counts.tolist(), strict=True):
                text = f"{value:.0f}" if isinstance(value, float) and value.is_integer() else str(value).strip()
                known = text in levels
                self._counts[name][known] += count
                if not known:
                    self._examples.setdefault(name, str(value))

    def report(self, source: str) -> None:
        """Raise DataError for a column of nearly only unknown categories."""
        for name, (unknown, known) in self._counts.items():
            if unknown >= max(_TOO_MANY, _UNKNOWN * (unknown + known)):
                raise DataError(
                    f"{source}: column {name!r} holds categories that training did not see in {unknown} of "
                    f"{unknown + known} rows, such as {self._examples[name][:40]!r}; expected "
                    f"{', '.join(map(repr, sorted(self._levels[name])[:5]))}."
                )


def measure(parts: Iterable[tuple[Array, Array]], classes: Sequence[str] | None) -> dict[str, float]:
    """Return ``loss``, and ``accuracy`` or ``r2``, of predictions and their targets.

    Parameters
    ----------
    parts : iterable of (ndarray, ndarray)
        Probabilities or values, and labels or numbers, of some rows.
    classes : sequence of str or None
        Labels in the order of the probabilities; None for regression.

    Returns
    -------
    dict
    """
    predicted, y = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    if classes is None:
        score = R2(y[:, None], None)
        sums = np.array(score.of_block(predicted[:, None], y[:, None], None))
        return {"loss": float(np.mean((predicted - y) ** 2)), "r2": score.value(sums)}
    place = {label: column for column, label in enumerate(classes)}
    columns = np.array([place[label] for label in y.tolist()])
    # A probability may be rounded to 0.
    chosen = np.maximum(predicted[np.arange(len(y)), columns], np.finfo(np.float64).tiny)
    return {"loss": float(-np.log(chosen).mean()), "accuracy": float((predicted.argmax(axis=1) == columns).mean())}


def describe_measures(found: Mapping[str, float], prefix: str = "") -> str:
    """Return measures in a line, for regression with the root of the loss, which has the unit of the target."""
    shown = dict(found)
    if "r2" in found:
        shown = {"loss": found["loss"], "rmse": found["loss"] ** 0.5, "r2": found["r2"]}
    return ", ".join(f"{prefix}{key} {format_metric(value, 4)}" for key, value in shown.items())


def refuse_backend(args: argparse.Namespace) -> None:
    """Raise UsageError for --backend, which predictions of an ensemble do not use."""
    if args.backend is not None:
        raise UsageError("--backend is for single networks; predictions of an ensemble use its compiled kernels.")


def rows_digest(estimator: Any, data: MixedTable) -> str:
    """Return a digest of the targets, and of the test rows as the estimator encodes them."""
    digest = hashlib.sha256(targets_digest(data.y, data.y_test, data.classes).encode())
    for start in range(0, len(data.X_test), _BLOCK):
        digest.update(estimator.encoder_.transform(data.X_test.iloc[start : start + _BLOCK]).tobytes())
    return digest.hexdigest()
