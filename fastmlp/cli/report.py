"""``fastmlp report``: one HTML page about one run or several."""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path
from typing import Any

from .._common.errors import ModelFileError
from .._kernels import use_backend
from ..reports import RunReport, write_report
from ..reports.layers import layer_outputs, layer_weights
from ..training.evaluator import Evaluator
from .compare import history_of
from .data import DATA_OPTIONS, fingerprint, load_run_data
from .options import NOTE
from .runs import Saved, loss_for, open_saved

__all__ = ["add_parser"]

_MOST_ROWS = 1000  # of the histograms of outputs


def add_parser(commands: Any) -> None:
    """Add the command's parser."""
    parser = commands.add_parser(
        "report",
        help="write an HTML page about one run or several",
        description="Write one HTML file with the configuration, curves, confusion matrix or residuals, calibration, "
        "scores by class, histograms of weights and outputs, machine, versions, seed, and the command that repeats the "
        "run. The file needs no network. Several runs are drawn into the same curves. "
        'This needs Plotly: pip install "fastmlp[report]".',
        epilog="example: fastmlp report runs/digits-* --out report.html",
        allow_abbrev=False,
    )
    parser.set_defaults(run=run)
    parser.add_argument("runs", nargs="+", metavar="RUN", help="run folders of fastmlp train")
    parser.add_argument("--out", default="report.html", metavar="FILE", help="page to write (default: report.html)")


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    names = list(dict.fromkeys(args.runs))
    reports = [_report(name) for name in names]
    if len({report.task for report in reports}) > 1:
        raise ModelFileError(
            f"The runs are of different tasks ({', '.join(report.task for report in reports)}); expected one task."
        )
    write_report(reports, args.out)
    print(f"saved {args.out}")
    return 0


def _report(name: str) -> RunReport:
    folder = Path(name).expanduser()
    history = history_of(folder)
    with use_backend("numba"):
        saved = open_saved(str(folder))
        loss = loss_for(saved.model)
    if saved.config is None:
        raise ModelFileError(f"{folder} has no config.json; expected a run folder of fastmlp train.")
    data = load_run_data({**dict.fromkeys(DATA_OPTIONS), **saved.config["data"]}, saved)
    known = saved.config.get("dataset", {}).get("sha256")
    if known is not None and known != fingerprint(data):
        print(f"{NOTE}{data.name} has changed since {name} was trained.", file=sys.stderr)
    evaluator = Evaluator(saved.model, loss)
    predictions = evaluator.predict(data.X_test) if loss.task == "regression" else evaluator.predict_proba(data.X_test)
    return RunReport(
        name=name,
        task=loss.task,
        history={key: history[key] for key in ("epoch", "train_loss", "val_loss", "val_accuracy", "lr")},
        scores=evaluator.evaluate(data.X_test, data.y_test),
        targets=data.y_test,
        predictions=predictions.reshape(len(predictions), -1),
        classes=[] if data.classes is None else [str(one) for one in data.classes],
        configuration=_configuration(saved.config),
        origin=_origin(saved),
        command=_command(saved.config),
        weights=layer_weights(saved.model),
        activations=layer_outputs(saved.model, data.X_test[:_MOST_ROWS]),
    )


def _configuration(config: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the options that are set."""
    return [
        (name.replace("_", "-"), _text(value)) for name, value in config.get("options", {}).items() if _is_set(value)
    ]


def _origin(saved: Saved) -> list[tuple[str, str]]:
    config = saved.config or {}
    shapes = config.get("dataset", {}).get("shapes", {})
    pairs = [("data", config["data"]["dataset"])]
    for part, name in (("X", "training rows"), ("X_test", "test rows")):
        if part in shapes:
            rows, columns = shapes[part]
            pairs.append((name, f"{rows:,} of {columns} columns"))
    pairs += [(name, str(value)) for name, value in config.get("machine", {}).items()]
    pairs += [(name, str(value)) for name, value in config.get("versions", {}).items() if value]
    return [*pairs, ("model file", str(saved.path))]


def _command(config: dict[str, Any]) -> str:
    """Return a command of `fastmlp train` with all options of a run."""
    words = ["fastmlp", "train"]
    for name, value in [*config["data"].items(), *config.get("options", {}).items()]:
        option = f"--{name.replace('_', '-')}"
        if name in ("header", "index") and value is not None:
            words.append(option if value else f"--no-{name}")
        elif value is True:
            words.append(option)
        elif _is_set(value):
            words += [option, _text(value)]
    return shlex.join(words)


def _is_set(value: Any) -> bool:
    return value is not None and value is not False


def _text(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)
