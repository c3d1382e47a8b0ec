"""``fastmlp report``: one HTML page about one run or several."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from pathlib import Path
from typing import Any

import numpy as np

from .._common.errors import ModelFileError
from .._kernels import use_backend
from ..modules.saving import is_ensemble
from ..reports import RunReport, write_report
from ..reports.layers import layer_outputs, layer_weights
from ..training.evaluator import Evaluator
from .compare import history_of
from .data import DATA_OPTIONS, fingerprint, is_named, load_run_data
from .ensembles import SavedEnsemble, data_errors, measure, rows_digest
from .options import NOTE
from .runs import CONFIG, METRICS, loss_for, open_saved, read_config
from .train_tabular import PARAMETERS

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
        allow_abbrev=False,
    )
    parser.set_defaults(run=run)
    parser.add_argument("runs", nargs="+", metavar="RUN", help="run folders of fastmlp train")
    parser.add_argument("--out", default="report.html", metavar="FILE", help="page to write (default: report.html)")


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    reports = [_report(name) for name in dict.fromkeys(args.runs)]
    if len({report.task for report in reports}) > 1:
        raise ModelFileError(
            f"The runs are of different tasks ({', '.join(report.task for report in reports)}); expected one task."
        )
    write_report(reports, args.out)
    print(f"saved {args.out}")
    return 0


def _report(name: str) -> RunReport:
    folder = Path(name).expanduser()
    histories = _histories(folder)
    if not (folder / CONFIG).is_file():
        raise ModelFileError(f"{folder} has no {CONFIG}; expected a run folder of fastmlp train.")
    config = read_config(folder / CONFIG)
    common = {
        "name": name,
        "histories": histories,
        "configuration": _configuration(config),
        "origin": _origin(config, folder),
        "command": _command(config),
    }
    return _ensemble_report(name, common) if is_ensemble(name) else _network_report(folder, common)


def _network_report(folder: Path, common: dict[str, Any]) -> RunReport:
    with use_backend("numba"):
        saved = open_saved(str(folder))
        loss = loss_for(saved.model)
    config = saved.config or {}
    data = load_run_data({**dict.fromkeys(DATA_OPTIONS), **config["data"]}, saved)
    _note_changes(config, fingerprint(data), data.name)
    evaluator = Evaluator(saved.model, loss)
    predictions = evaluator.predict(data.X_test) if loss.task == "regression" else evaluator.predict_proba(data.X_test)
    return RunReport(
        task=loss.task,
        scores=evaluator.evaluate(data.X_test, data.y_test),
        targets=data.y_test,
        predictions=predictions.reshape(len(predictions), -1),
        classes=[] if data.classes is None else [str(one) for one in data.classes],
        weights=layer_weights(saved.model),
        activations=layer_outputs(saved.model, data.X_test[:_MOST_ROWS]),
        **common,
    )


def _ensemble_report(name: str, common: dict[str, Any]) -> RunReport:
    saved = SavedEnsemble(name)
    config = saved.config or {}
    data = saved.load_run(config["data"])
    with data_errors(data.name):
        predicted = saved.predict(data.X_test)
        _note_changes(config, rows_digest(saved.estimator, data), data.name)
    targets = data.y_test
    if saved.classes is not None:
        place = {label: number for number, label in enumerate(saved.classes)}
        targets = np.array([place[str(label)] for label in targets.tolist()])
    return RunReport(
        task=data.task,
        scores=measure([(predicted, data.y_test)], saved.classes),
        targets=targets,
        predictions=predicted.reshape(len(predicted), -1),
        classes=saved.classes or [],
        **common,
    )


def _note_changes(config: dict[str, Any], sha: str, name: str) -> None:
    known = config.get("dataset", {}).get("sha256")
    if known is not None and known != sha:
        print(f"{NOTE}{name} has changed since the run was trained.", file=sys.stderr)


def _histories(folder: Path) -> dict[str, dict[str, list[Any]]]:
    """Return the columns of the metrics, by net for an ensemble."""
    columns = ("epoch", "train_loss", "val_loss", "val_accuracy", "lr")
    history = history_of(folder)  # raises the errors of damaged files
    records = [json.loads(line) for line in (folder / METRICS).read_text(encoding="utf-8").splitlines()]
    nets = sorted({record["net"] for record in records if "net" in record})
    if not nets:
        return {"": {key: history[key] for key in columns}}
    return {
        f"net {net}": {key: [record[key] for record in records if record.get("net") == net] for key in columns}
        for net in nets
    }


def _configuration(config: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the options that are set."""
    return [(name.replace("_", "-"), _text(value)) for name, value in _options(config).items() if _is_set(value)]


def _origin(config: dict[str, Any], folder: Path) -> list[tuple[str, str]]:
    described = config.get("dataset", {})
    shapes, rows = described.get("shapes", {}), described.get("rows", {})
    pairs = [("data", config["data"]["dataset"])]
    for part, key in (("training", "X"), ("test", "X_test")):
        shape = shapes.get(key) or [rows.get(part, 0), len(described.get("columns", []))]
        pairs.append((f"{part} rows", f"{shape[0]:,} of {shape[1]} columns"))
    pairs += [(name, str(value)) for name, value in config.get("machine", {}).items()]
    pairs += [(name, str(value)) for name, value in config.get("versions", {}).items() if value]
    return [*pairs, ("folder", str(folder))]


def _options(config: dict[str, Any]) -> dict[str, Any]:
    """Return the options of a run by the names of the command, those of an ensemble too."""
    names = {parameter: option for option, parameter in PARAMETERS.items()}
    options = config.get("options", {})
    return {names.get(name, name): value for name, value in options.items()} if "estimator" in config else options


def _command(config: dict[str, Any]) -> str:
    """Return a command of `fastmlp train` with all options of a run."""
    words = ["fastmlp", "train"]
    if "estimator" not in config and not is_named(config["data"]["dataset"]):
        words.append("--plain")
    for name, value in [*config["data"].items(), *_options(config).items()]:
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
