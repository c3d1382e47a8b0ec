"""``fastmlp predict``: predictions of a saved model, as CSV."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from .._common.errors import DataError
from .._common.validation import Array, finite_features
from .._kernels import get_backend, use_backend
from ..datasets import apply_preprocessing, load
from ..datasets.dialect import TextFormat
from ..datasets.evaluation import load_rows
from ..datasets.pack_cache import is_large
from ..datasets.packed import is_packed
from ..datasets.table_files import is_text_file, read_numbers, reject_format
from ..inference.kernels import inference_kernels
from ..inference.predictor import Predictor
from ..io.array_files import map_npy, read_npz
from ..modules.saving import is_ensemble
from ..training.evaluator import Evaluator
from .data import is_named, packed_as_trained, print_data_warnings, reject_table_options
from .ensembles import SavedEnsemble, data_errors, refuse_backend
from .options import UsageError, add_backend_option, add_format_options
from .predictions import predictions_as_csv, write_predictions
from .runs import Saved, loss_for, open_saved

__all__ = ["add_parser"]

_BLOCK = 1 << 16  # rows whose predictions are in memory at once


def add_parser(commands: Any) -> None:
    """Add the command's parser."""
    parser = commands.add_parser(
        "predict",
        help="print the predictions of a saved model",
        description="Print the predictions of a saved model as CSV: a line with column names, then one line per row.",
        allow_abbrev=False,
    )
    parser.set_defaults(run=run)
    parser.add_argument("model", metavar="RUN_OR_MODEL", help="run folder of fastmlp train, or saved model")
    parser.add_argument(
        "file",
        metavar="FILE",
        help="rows to predict: .npy, .npz (array X), .csv, .tsv, .parquet, or a folder of such; or a data set or "
        "packed folder, for its test rows",
    )
    parser.add_argument("--data-dir", "--data_dir", metavar="DIR", help="folder of the files of a named data set")
    parser.add_argument("--output", metavar="CSV", help="file to write (default: standard output)")
    parser.add_argument("--proba", action="store_true", help="add a column with the probability of each class")
    add_format_options(parser, header="as in training")
    add_backend_option(parser)


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    if is_ensemble(args.model):
        return _run_ensemble(args)
    # Without an explicit backend, Predictor is used if its kernels are compiled, as it needs no JIT compilation.
    kernels = inference_kernels()
    compiled = kernels is not None and kernels.ahead_of_time
    chosen = args.backend or os.environ.get("FASTMLP_BACKEND") or (None if compiled else get_backend().name)
    with use_backend(chosen or "numpy"):
        saved = open_saved(args.model)
        loss = loss_for(saved.model)
        predictor = Evaluator(saved.model, loss) if chosen else Predictor(saved.model)
    if args.proba and saved.model.task == "regression":
        raise UsageError("--proba is for classification; this model is for regression.")
    X = finite_features(_rows(args, saved), saved.model.in_width, saved.model.dtype, "predict: X")
    write_predictions(_csv(predictor, X, saved, args.proba), args.output)
    if args.output is not None:
        print(f"saved {args.output}: {len(X):,} predictions")
    return 0


def _csv(predictor: Evaluator | Predictor, X: Any, saved: Saved, proba: bool) -> Iterator[str]:
    """Yield the predictions as CSV, by blocks of rows: texts take many times the memory of numbers."""
    offset = (saved.preprocessing or {}).get("target_offset", 0)
    for start in range(0, max(1, len(X)), _BLOCK):
        rows = X[start : start + _BLOCK]
        predictions = predictor.predict(rows)
        if offset:
            predictions = predictions.astype(np.float64) + offset
        columns = [predictions] if predictions.ndim == 1 else list(predictions.T)
        names = ["prediction"] if predictions.ndim == 1 else [f"prediction_{number}" for number in range(len(columns))]
        if proba:
            probabilities = predictor.predict_proba(rows)
            labels = saved.model.classes if saved.model.task == "classification" else None
            names += [f"p_{label}" for label in (labels or range(probabilities.shape[1]))]
            columns += list(probabilities.T)
        yield predictions_as_csv(names, columns, heading=not start)


def _rows(args: argparse.Namespace, saved: Saved) -> Any:
    given = {key: getattr(args, key) for key in ("header", "separator", "decimal")}
    if is_named(args.file):
        reject_table_options(args.file, given)
        return load(args.file, data_dir=args.data_dir).X_test
    path = Path(os.path.expanduser(args.file))
    if not path.exists():
        raise DataError(f"{path} does not exist; expected a file of rows, or the name of a data set.")
    if is_packed(path):
        reject_table_options(args.file, given)
        return packed_as_trained(path, saved).X_test
    with print_data_warnings():
        if is_large(path) and not (saved.preprocessing is None and path.suffix.lower() == ".npy"):
            return load_rows(path, saved.preprocessing, **given)
        if saved.preprocessing is not None:
            return apply_preprocessing(path, saved.preprocessing, **given)
        reject_format(path, TextFormat(**given))
        if is_text_file(path):
            return read_numbers(path, TextFormat(**given), saved.model.in_width)
    suffix = path.suffix.lower()
    if suffix not in (".npy", ".npz"):
        raise DataError(f"{path} has an unknown suffix; expected .npy, .npz, .csv or .tsv.")
    X = map_npy(path) if suffix == ".npy" else read_npz(path, ("X",)).get("X")
    if X is None or X.ndim == 0:
        raise DataError(f"{path} has no array of rows; expected an array, in .npz files with the name X.")
    return X.reshape(len(X), -1) if X.ndim > 1 else X[None, :]


def _run_ensemble(args: argparse.Namespace) -> int:
    """Predict with an ensemble for tables."""
    if args.data_dir is not None:
        raise UsageError("--data-dir is for named data sets, which have no columns of a table.")
    refuse_backend(args)
    saved = SavedEnsemble(args.model)
    if args.proba and saved.classes is None:
        raise UsageError("--proba is for classification; this model is for regression.")
    options = {key: getattr(args, key) for key in ("header", "separator", "decimal")}
    count = 0

    def lines() -> Iterator[str]:
        nonlocal count
        with data_errors(args.file):
            for X, _ in saved.frames(args.file, options, labeled=False):
                yield predictions_as_csv(*_columns(saved, X, args.proba), heading=not count)
                count += len(X)

    with print_data_warnings():
        write_predictions(lines(), args.output)
    if args.output is not None:
        print(f"saved {args.output}: {count:,} predictions")
    return 0


def _columns(saved: SavedEnsemble, X: Any, proba: bool) -> tuple[list[str], list[Array]]:
    """Return the names and the columns of the predictions of some rows."""
    found = saved.predict(X)
    if saved.classes is None:
        several = found.ndim > 1
        names = [f"prediction_{number}" for number in range(found.shape[1])] if several else ["prediction"]
        return names, list(found.T) if several else [found]
    labels = np.array(saved.classes)[found.argmax(axis=1)]
    extra = list(found.T) if proba else []
    return ["prediction", *(f"p_{label}" for label in saved.classes[: len(extra)])], [labels, *extra]
