"""``fastmlp train`` on tables of mixed columns: an ensemble of `TabularClassifier` or `TabularRegressor`."""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from .._kernels import get_backend, use_backend
from ..callbacks.history import KEYS
from ..datasets.dialect import non_numeric
from ..datasets.loading import table_path
from ..datasets.mixed import MixedTable, has_mixed_columns, load_mixed
from ..datasets.pack_cache import is_large
from ..datasets.packed import is_packed
from ..io.files import LineFile
from .console import NetsTable
from .curves import draw_nets
from .data import (
    DATA_OPTIONS,
    check_test_rows,
    data_options,
    is_named,
    print_data_warnings,
    targets_digest,
    with_table_format,
)
from .ensembles import data_errors, describe_measures, measure, rows_digest
from .options import INTERRUPTED, NOTE, UsageError, given_options, print_json
from .runs import CONFIG, CURVES, METRICS, MODEL, describe_machine, make_folder, remove_old_run, write_config
from .train_options import ENSEMBLE_OPTIONS

__all__ = ["PARAMETERS", "run", "takes_ensemble"]

# Options of the ensemble and the parameters of the estimators; others need --plain.
PARAMETERS = {
    "preset": "preset", "nets": "n_nets", "hidden": "hidden_layer_sizes", "lr": "learning_rate_init",
    "batch_size": "batch_size", "epochs": "max_iter", "early_stopping": "n_iter_no_change", "time_limit": "time_limit",
    "seed": "random_state", "threads": "threads",
}  # fmt: skip
_OTHERS = (*DATA_OPTIONS, "backend", "config", "out", "force", "json", "no_progress", "quiet", "run", "parser")
_LARGEST_SEED = 2**32 - 1
_SHOWN = 30  # columns in the heading of a run


def takes_ensemble(args: argparse.Namespace) -> bool:
    """Return whether the data are trained as an ensemble: a table of mixed columns that is read into memory.

    Raises
    ------
    UsageError
        If options of the ensemble are given for other data, or with --plain.
    """
    data_options(args)  # raises the errors of options that exclude each other
    given = given_options(args)
    foreign = next((name for name in ENSEMBLE_OPTIONS if name in given), None)
    option = "" if foreign is None else f"--{foreign.replace('_', '-')}"
    if args.plain:
        if option:
            raise UsageError(
                f"{option} is for ensembles and cannot be combined with --plain, which trains one network."
            )
        return False
    path = None if is_named(args.dataset) else table_path(args.dataset, args.data_dir)
    if path is None or is_packed(path) or not has_mixed_columns(path):
        if option:
            raise UsageError(f"{option} is for .csv, .tsv and .parquet tables; leave it out for {args.dataset}.")
        return False
    if not is_large(path, args.test):
        return True
    if option:
        raise UsageError(f"{option} is for tables that fit in memory; {path} is packed and trained as one network.")
    print(f"{NOTE}{path} is read from disk and trained as one network, as with --plain.", file=sys.stderr)
    return False


def run(args: argparse.Namespace) -> int:
    """Train an ensemble, and save it in a run folder."""
    parameters = _parameters(args)
    source = data_options(args)
    reading = {key: source[key] for key in DATA_OPTIONS[2:] if source[key] is not None}
    with print_data_warnings():
        data = load_mixed(table_path(source["dataset"], source["data_dir"]), **reading)
    check_test_rows(data.name, data.y, data.y_test, data.classes)
    package = _tabular()
    kind = package.TabularRegressor if data.classes is None else package.TabularClassifier
    estimator = kind(**parameters)
    folder = make_folder(args.out, args.dataset, args.force)
    remove_old_run(folder)
    (folder / MODEL).unlink(missing_ok=True)
    backend = args.backend or get_backend().name
    config = _config(with_table_format(source, data.record), parameters, backend, kind.__name__, data)
    write_config(folder, config)
    if args.json:
        print_json(event="start", run=str(folder), config=config)
    progress = _Progress(args, folder, estimator, data, backend)
    try:
        with use_backend(backend), data_errors(data.name):
            estimator.fit(data.X, data.y, callbacks=progress.callbacks)
            found = _measure_test(estimator, data)
        progress.write_result(found)
    except KeyboardInterrupt:
        if not args.json:
            print("stopped by Ctrl-C; no model is saved, as the nets are not complete")
        return INTERRUPTED
    finally:
        progress.close()
    held_out = _measure_held_out(estimator, data)
    estimator.save(folder / MODEL, preprocessing=data.record)
    write_config(
        folder, {**config, "results": {"test": found, "held_out": held_out}} | _digests(config, estimator, data)
    )
    no_curves = draw_nets(progress.records, f"{data.name}: {len(progress.records)} nets", folder / CURVES)
    if args.json:
        print_json(event="end", run=str(folder), ending="done", test=found, held_out=held_out)
    elif not args.quiet:
        _print_end(found, held_out, folder, no_curves)
    return 0


def _parameters(args: argparse.Namespace) -> dict[str, Any]:
    """Return the parameters of the estimator; raise UsageError for options that it does not have."""
    given = given_options(args)
    foreign = next((name for name in sorted(given) if name not in (*PARAMETERS, *_OTHERS, "plain")), None)
    if foreign is not None:
        raise UsageError(
            f"--{foreign.replace('_', '-')} is not for ensembles, which tables are trained as; --plain trains a single "
            "network with it."
        )
    presets = _tabular(".presets").PRESETS
    found = {name: getattr(args, option) for option, name in PARAMETERS.items()}
    found["preset"] = args.preset or "balanced"
    if found["preset"] not in presets:
        raise UsageError(f"--preset is {args.preset!r}; expected {', '.join(presets)}.")
    if args.seed > _LARGEST_SEED:
        raise UsageError(f"--seed is {args.seed}; expected at most {_LARGEST_SEED} for an ensemble.")
    return found


def _tabular(module: str = "") -> Any:
    """Import a module of `fastmlp.tabular`, which needs scikit-learn."""
    try:
        return importlib.import_module(f"fastmlp.tabular{module}")
    except ImportError as error:
        raise ImportError(f"{error} --plain trains a single network without it.") from error


class _Progress:
    """Progress of the nets on the console, and in metrics.jsonl."""

    def __init__(self, args: argparse.Namespace, folder: Path, estimator: Any, data: MixedTable, backend: str) -> None:
        preset = _tabular(".presets").PRESETS[estimator.preset]
        self._nets = estimator.n_nets or preset.n_nets
        quiet = args.quiet or args.json
        bar = not (quiet or args.no_progress) and sys.stderr is not None and sys.stderr.isatty()
        self.table = NetsTable(self._nets, bar=bar, quiet=quiet)
        self._quiet, self._json, self._folder, self._estimator = quiet, args.json, folder, estimator
        self._data, self._backend = data, backend
        self.records: list[list[dict[str, Any]]] = []
        self._file = LineFile(folder / METRICS)

    def callbacks(self, number: int, trainer: Any) -> list[Any]:
        """Return the callbacks of a net; print the heading before the first one."""
        if not number and not self._quiet:
            self._print_header(trainer.model)
        self.records.append([])
        of_net = self.records[number]

        def record_metrics(trainer: Any, record: dict[str, Any]) -> None:
            of_net.append(record)
            with self.table.lock:
                self._file.write(json.dumps({"net": number + 1, **record}, allow_nan=False))
                if self._json:
                    print_json(event="evaluation", net=number + 1, **record)

        return [record_metrics, self.table.watch(number)]

    def write_result(self, found: dict[str, float]) -> None:
        """Append the record of the ensemble on the test rows, which `fastmlp compare` reads."""
        last = [records[-1] for records in self.records]
        line = dict.fromkeys(KEYS) | {
            "step": sum(record["step"] for record in last),
            "epoch": max(record["epoch"] for record in last),
            "val_loss": found["loss"],
            "val_accuracy": found.get("accuracy"),
            "seconds": max(record["seconds"] for record in last),
        }
        self._file.write(json.dumps(line, allow_nan=False))

    def close(self) -> None:
        """End the progress bar, and close the file."""
        self.table.close()
        self._file.close()

    def _print_header(self, model: Any) -> None:
        data, estimator = self._data, self._estimator
        kind = "regression" if data.classes is None else f"{len(data.classes)} classes"
        columns = data.X.shape[1]
        print(
            f"data       {data.name}: {len(data.y):,} training and {len(data.y_test):,} test rows, "
            f"{columns:,} {'column' if columns == 1 else 'columns'}, {kind}"
        )
        if data.record["separator"] is not None and not data.record["header"]:
            print(f"header     none; the columns are named {', '.join(data.record['all_columns'][:5])} ...")
        for place, line in enumerate(_shorten(estimator.encoder_.summary().splitlines())):
            print(f"{'' if place else 'columns':10} {line}")
        for note in _notes(estimator.encoder_, data):
            print(f"note       {note}")
        widths = [model.in_width, *(module.out_width for module in model.modules() if "weight" in module.params)]
        chosen = _chosen(estimator)
        print(
            f"model      {self._nets} {'net' if self._nets == 1 else 'nets'} of {'-'.join(map(str, widths))}, "
            f"{model.num_parameters:,} parameters each ({model.dtype})\n"
            f"training   preset {estimator.preset}{chosen}; each net holds out other rows, and keeps the weights of\n"
            f"           their least loss{' (of standardized targets)' if data.classes is None else ''}\n"
            f"backend    {self._backend}, seed {estimator.random_state}\n"
            f"run        {self._folder}\n",
            flush=True,
        )


def _chosen(estimator: Any) -> str:
    """Describe the parameters that differ from those of the preset."""
    names = ("learning_rate_init", "batch_size", "max_iter", "n_iter_no_change", "time_limit")
    given = {name: getattr(estimator, name) for name in names}
    options = {parameter: option for option, parameter in PARAMETERS.items()}
    return "".join(
        f", {options[name].replace('_', '-')} {value:g}" for name, value in given.items() if value is not None
    )


def _shorten(lines: list[str]) -> list[str]:
    if len(lines) <= _SHOWN + 2:
        return lines
    return [*lines[: _SHOWN + 1], f"... and {len(lines) - 1 - _SHOWN} more columns, see fastmlp info RUN"]


def _notes(encoder: Any, data: MixedTable) -> list[str]:
    """Return notes on columns that are probably not as intended."""
    state = encoder.state()
    notes = [
        f"{name} looks like an identifier, which helps no prediction (--drop {name!r} leaves it out)"
        for name, odd, one in zip(state["names"], state["identifiers"], encoder.encodings_, strict=True)
        if odd and one.width
    ]
    for spec in data.record["columns"]:
        if spec["text"] and not spec["date"]:
            texts = [str(text) for text in data.X[spec["name"]].dropna().unique().tolist()]
            odd = non_numeric(texts)
            if odd:
                shown = ", ".join(repr(text[:20]) for text in odd[:5])
                notes.append(f"{spec['name']} is read as text because of {shown}; its other values are numbers")
    return notes


def _measure_test(estimator: Any, data: MixedTable) -> dict[str, float]:
    if data.classes is None:
        return measure([(estimator.predict(data.X_test), data.y_test)], None)
    return measure([(estimator.predict_proba(data.X_test), data.y_test)], estimator.classes_.tolist())


def _measure_held_out(estimator: Any, data: MixedTable) -> dict[str, float] | None:
    """Return the measures of the training rows by nets that held them out; None without such rows."""
    found = estimator.oof_prediction_ if data.classes is None else estimator.oof_predict_proba_
    if found is None:
        return None
    known = np.isfinite(found.reshape(len(found), -1)[:, 0])
    classes = None if data.classes is None else estimator.classes_.tolist()
    return measure([(found[known], data.y[known])], classes)


def _config(
    source: dict[str, Any], parameters: dict[str, Any], backend: str, kind: str, data: MixedTable
) -> dict[str, Any]:
    return {
        "data": source,
        "options": {**parameters, "backend": backend},
        "estimator": kind,
        "dataset": {
            "name": data.name,
            "task": data.task,
            "classes": None if data.classes is None else list(data.classes),
            "rows": {"training": len(data.y), "test": len(data.y_test)},
            "columns": [spec["name"] for spec in data.record["columns"]],
        },
        **describe_machine("scikit-learn", "pandas"),
    }


def _digests(config: dict[str, Any], estimator: Any, data: MixedTable) -> dict[str, Any]:
    """Return the entry of config.json on the data, with digests of the rows."""
    digests = {
        "sha256": rows_digest(estimator, data),
        "targets_sha256": targets_digest(data.y, data.y_test, data.classes),
    }
    return {"dataset": {**config["dataset"], **digests}}


def _print_end(found: dict[str, float], held_out: dict[str, float] | None, folder: Path, no_curves: str | None) -> None:
    print(f"\ndone: {describe_measures(found, 'test ')}")
    if held_out is not None:
        print(f"training rows, predicted by nets that held them out: {describe_measures(held_out)}")
    files = [name for name in (MODEL, CONFIG, METRICS, CURVES) if (folder / name).is_file()]
    print(f"saved {folder}: {', '.join(files)}")
    if no_curves:
        print(f"no {CURVES}: {no_curves}")
