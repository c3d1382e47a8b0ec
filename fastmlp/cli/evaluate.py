"""``fastmlp evaluate``: loss and accuracy or R2 of a saved model."""

from __future__ import annotations

import argparse
import os
import sys
from typing import Any

from .._kernels import get_backend, use_backend
from ..training.evaluator import Evaluator
from .console import format_metric
from .data import (
    DATA_OPTIONS,
    check_data_options,
    data_options,
    fingerprint,
    is_named,
    load_data,
    load_labeled_rows,
    load_run_data,
)
from .options import NOTE, UsageError, add_backend_option, add_data_options
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


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    with use_backend(args.backend or get_backend().name):
        saved = open_saved(args.model)
        loss = loss_for(saved.model)
    source, X, y = _rows(args, saved)
    result = Evaluator(saved.model, loss).evaluate(X, y)
    print(f"{saved.path} on {source}, {len(y):,} {'row' if len(y) == 1 else 'rows'}")
    for key, value in result.items():
        print(f"{key:9s} {format_metric(value, 6)}")
    return 0


def _rows(args: argparse.Namespace, saved: Saved) -> tuple[str, Any, Any]:
    """Return (description of the rows, X, y)."""
    recorded = (saved.config or {}).get("data")
    if args.dataset is not None and not is_named(args.dataset):
        given = next((key for key in ("test", "test_size") if getattr(args, key) is not None), None)
        if given is not None:
            option = given.replace("_", "-")
            raise UsageError(
                f"--{option} cannot be combined with --dataset FILE, which evaluates all rows of the file."
            )
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
    changed = {key: value for key in DATA_OPTIONS if (value := getattr(args, key, None)) is not None}
    options = {**dict.fromkeys(DATA_OPTIONS), **recorded}
    if "test" in changed or "test_size" in changed:  # the two exclude each other
        options |= {"test": None, "test_size": None}
    data = load_run_data(check_data_options({**options, **changed}), saved)
    known = (saved.config or {}).get("dataset", {}).get("sha256")
    if not changed and known is not None and known != fingerprint(data):
        print(f"{NOTE}{data.name} has changed since the model was trained.", file=sys.stderr)
    return f"the test rows of {data.name}", data.X_test, data.y_test
