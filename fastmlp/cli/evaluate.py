"""``fastmlp evaluate``: loss and accuracy or R2 of a saved model."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from .._common.validation import Array
from .._kernels import get_backend, use_backend
from ..modules.saving import is_ensemble
from ..training.evaluator import Evaluator
from .console import format_metric
from .data import (
    check_test_rows,
    data_options,
    fingerprint,
    is_named,
    load_data,
    load_labeled_rows,
    load_run_data,
    merge_options,
    print_data_warnings,
    require_no_split,
)
from .ensembles import SavedEnsemble, data_errors, measure, refuse_backend, rows_digest
from .options import NOTE, UsageError, add_backend_option, add_data_options, add_json_option, print_json
from .runs import Saved, loss_for, open_saved

__all__ = ["add_parser"]


def add_parser(commands: Any) -> None:
    """Add the command's parser."""
    parser = commands.add_parser(
        "evaluate",
        help="compute the loss and the accuracy of a saved model",
        description="Print the loss and the accuracy (regression: R2) of a saved model. The default is to evaluate the "
        "test rows of its data set; --dataset FILE evaluates all rows of a table.",
        allow_abbrev=False,
    )
    parser.set_defaults(run=run)
    parser.add_argument("model", metavar="RUN_OR_MODEL", help="run folder of fastmlp train, or saved model")
    add_data_options(parser, None, "that of the run", to_train=False)
    add_backend_option(parser)
    add_json_option(parser, "print one line of JSON")


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    if is_ensemble(args.model):
        return _run_ensemble(args)
    with use_backend(args.backend or get_backend().name):
        saved = open_saved(args.model)
        loss = loss_for(saved.model)
    source, X, y = _rows(args, saved)
    result = Evaluator(saved.model, loss).evaluate(X, y)
    _print_result(args, saved.path, source, len(y), result)
    return 0


def _print_result(args: argparse.Namespace, model: Path, source: str, rows: int, result: dict[str, float]) -> None:
    if args.json:
        print_json(model=str(model), data=source, rows=rows, **result)
        return
    print(f"{model} on {source}, {rows:,} {'row' if rows == 1 else 'rows'}")
    for key, value in result.items():
        print(f"{key:9s} {format_metric(value, 6)}")


def _rows(args: argparse.Namespace, saved: Saved) -> tuple[str, Any, Any]:
    """Return (description of the rows, X, y)."""
    recorded = (saved.config or {}).get("data")
    if args.dataset is not None and not is_named(args.dataset):
        require_no_split(args)
        options = {key: getattr(args, key) for key in ("target", "header", "separator", "decimal")}
        if options["target"] is None and recorded is not None:
            if recorded["dataset"] == os.path.abspath(args.dataset):
                options["target"] = recorded.get("target")
        return args.dataset, *load_labeled_rows(args.dataset, options, saved)
    if args.dataset is not None:
        data = load_data(data_options(args))
        return f"the test rows of {data.name}", data.X_test, data.y_test
    if recorded is None:
        raise UsageError(f"{saved.path} is not in a run folder whose config.json names its data; give --dataset.")
    changed, options = merge_options(args, recorded)
    data = load_run_data(options, saved)
    known = (saved.config or {}).get("dataset", {}).get("sha256")
    if not changed and known is not None and known != fingerprint(data):
        print(f"{NOTE}{data.name} has changed since the model was trained.", file=sys.stderr)
    return f"the test rows of {data.name}", data.X_test, data.y_test


def _run_ensemble(args: argparse.Namespace) -> int:
    """Evaluate an ensemble for tables."""
    refuse_backend(args)
    saved = SavedEnsemble(args.model)
    recorded = (saved.config or {}).get("data")
    if args.dataset is not None:
        require_no_split(args)
        options = {key: getattr(args, key) for key in ("target", "header", "separator", "decimal")}
        if options["target"] is None and recorded is not None and recorded["dataset"] == os.path.abspath(args.dataset):
            options["target"] = recorded.get("target")
        source = args.dataset
        with print_data_warnings(), data_errors(source):
            parts = [(saved.predict(X), y) for X, y in saved.frames(source, options) if y is not None]
    else:
        if recorded is None:
            raise UsageError(f"{saved.path} is not in a run folder whose config.json names its data; give --dataset.")
        source, parts = _test_part(args, recorded, saved)
    found = measure(parts, saved.classes)
    rows = sum(len(y) for _, y in parts)
    _print_result(args, saved.path, source, rows, found)
    return 0


def _test_part(
    args: argparse.Namespace, recorded: dict[str, Any], saved: SavedEnsemble
) -> tuple[str, list[tuple[Array, Array]]]:
    """Return a description of the test rows of a run, and their predictions and targets."""
    changed, options = merge_options(args, recorded)
    data = saved.load_run(options)
    check_test_rows(data.name, data.y, data.y_test, data.classes)
    with data_errors(data.name):
        predicted = saved.predict(data.X_test)
        known = (saved.config or {}).get("dataset", {}).get("sha256")
        if not changed and known is not None and known != rows_digest(saved.estimator, data):
            print(f"{NOTE}{data.name} has changed since the model was trained.", file=sys.stderr)
    return f"the test rows of {data.name}", [(predicted, data.y_test)]
