"""``fastmlp train``: train a model and leave a run folder."""

from __future__ import annotations

import argparse
import platform
import sys
from pathlib import Path
from typing import Any

import numpy as np

from .. import __version__, optim
from .._common.arithmetic import ceil_div
from .._common.errors import DataError, DivergenceError, ModelFileError
from .._common.processor import version_of
from ..callbacks import EarlyStopping, MetricsFile, SaveModel
from ..callbacks.loggers import TensorBoard
from ..callbacks.progress import ProgressBar
from ..callbacks.saving import SaveState
from ..datasets import Dataset
from ..datasets.dialect import is_number, mistyped
from ..losses import Loss
from ..modules import Module
from ..modules.saving import save
from ..training.augmentation import Augmentations
from ..training.evaluator import Evaluator
from ..training.trainer import Trainer
from .console import MetricsTable, shown_metric
from .curves import draw_curves
from .data import DATA_OPTIONS, data_options, described_columns, fingerprint, load_data, settled
from .defaults import describe_defaults
from .options import INTERRUPTED, UsageError, add_data_options, config_arguments
from .runs import AVERAGE, CONFIG, CURVES, METRICS, MODEL, STATE, drop_old_run, make_folder, read_config, write_config
from .train_options import add_options, resolve
from .train_parts import augmentations, make_trainer

__all__ = ["add_parser"]


def add_parser(commands: Any) -> None:
    """Add the command's parser."""
    parser = commands.add_parser(
        "train",
        help="train a model on a data set",
        description="Train a multilayer perceptron. It is validated on the data set's test rows.",
        epilog=describe_defaults(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.set_defaults(run=run, parser=parser)
    add_data_options(parser, "digits", "digits, which comes with fastmlp")
    add_options(parser)


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    if args.config is not None:
        from_file = config_arguments(args.config, args.parser)
        args.parser.where = f"{args.config}: "
        args.parser.parse_args(from_file)
        args.parser.where = ""
        if args.steps is not None or args.epochs is not None:  # the one excludes the other's in the file
            lengths = tuple(f"{spelling}=" for spelling in ("--steps", "--max_steps", "--epochs"))
            from_file = [option for option in from_file if not option.startswith(lengths)]
        given = args.parser.parse_args([*from_file, *args.argv[1:]])
        given.argv, args = args.argv, given
    resumed = None if args.resume is None else _resumable(args)
    if resumed is None:
        source = data_options(args)
        data = load_data(source, args.dtype)
        source, options = settled(source, data), resolve(args, data)
    else:
        folder, source, options = resumed
        data = load_data(source, options["dtype"])
        args.tensorboard, args.backend = bool(options["tensorboard"]), options["backend"]
    try:
        model, loss, optimizer, trainer = make_trainer(args.backend, options, data)
    except (KeyError, TypeError) as error:
        if resumed is None:
            raise
        raise ModelFileError(f"{folder / CONFIG} is damaged: an option is {error}.") from error
    options["backend"] = model.backend_name

    if not len(data.y_test):
        classes = data.classes or ()
        if len(classes) == len(data.y) and sum(map(is_number, classes)) > len(classes) / 2:
            odd = mistyped(classes)
            seen = f", for {odd[0][:40]!r} is no number" if odd else "; expected --task regression"
            raise DataError(f"{data.name} has a class for each of its {len(data.y)} rows{seen}.")
        raise DataError(f"{data.name} leaves no rows to test on: it has {len(data.y)}. Give more rows, or --test FILE.")
    changes = augmentations(options, data)
    Augmentations(changes, model, data.X.shape[1], model.out_width or 1, model.dtype or np.dtype("float32"))
    if resumed is None:
        folder = make_folder(args.out, args.dataset, args.force)
        # Where this fails, a run that --force is to overwrite is still whole.
        save(model, folder / MODEL, preprocessing=data.preprocessing)
        drop_old_run(folder)
        write_config(folder, _config(source, options, data, model, loss, optimizer))
    bar = not (args.quiet or args.no_progress) and sys.stderr is not None and sys.stderr.isatty()
    callbacks: list[Any] = [MetricsFile(folder / METRICS)]
    if options["early_stopping"] is not None:
        callbacks.append(EarlyStopping(options["early_stopping"]))
    callbacks.append(SaveState(folder / STATE, every_minutes=args.save_minutes))
    callbacks.append(SaveModel(folder / MODEL, preprocessing=data.preprocessing, at_begin=resumed is None))
    if trainer.optimizer.average is not None:
        callbacks.append(SaveModel(folder / AVERAGE, preprocessing=data.preprocessing, average=True))
    if args.tensorboard:
        callbacks.append(TensorBoard(folder / "tensorboard"))
    if bar:
        callbacks.append(ProgressBar(lines=False))
    table = MetricsTable(bar)
    if not args.quiet:
        _print_header(data, options, model, folder)
        callbacks.append(table)

    ending, code = "done", 0
    try:
        trainer.fit(
            data.X,
            data.y,
            validation=(data.X_test, data.y_test),
            batch_size=options["batch_size"],
            epochs=options["epochs"],
            max_steps=options["steps"],
            eval_every=options["eval_every"],
            callbacks=callbacks,
            rng=options["seed"],
            threads=args.threads,
            accumulate=options["accumulate"],
            augment=changes,
            resume=None if resumed is None else folder / STATE,
        )
    except KeyboardInterrupt:
        ending, code = f"stopped by Ctrl-C after {trainer.steps:,} of {trainer.planned_steps:,} steps", INTERRUPTED
    except DivergenceError as error:
        _draw(trainer, options, data.name, folder)
        raise DivergenceError(f"{error} They are saved in {folder / MODEL}.") from error
    if ending == "done" and resumed is not None and table.empty:
        ending = f"this run was complete, after {trainer.steps:,} steps"
    elif ending == "done" and trainer.steps < trainer.planned_steps:
        ending = f"stopped early after {trainer.steps:,} of {trainer.planned_steps:,} steps"
    if trainer.restored is not None:
        ending += f", with the weights of step {trainer.restored:,}"
    no_curves = _draw(trainer, options, data.name, folder)
    if not args.quiet:
        _print_end(ending, trainer, data, folder, no_curves)
        if code == INTERRUPTED and (folder / STATE).is_file():
            print(f"to go on: fastmlp train --resume {folder}")
    return code


# What --resume may come with.
_FREE = ("resume", "threads", "quiet", "no_progress", "save_minutes")


def _resumable(args: argparse.Namespace) -> tuple[Path, dict[str, Any], dict[str, Any]]:
    """(folder, data options, training options) of the run that --resume names."""
    blank = vars(args.parser.parse_args([]))
    other = next(
        (key for key, value in vars(args).items() if key in blank and value != blank[key] and key not in _FREE), None
    )
    if other is not None:
        raise UsageError(f"--{other.replace('_', '-')} does not go with --resume, which takes the run's own options.")
    folder = Path(args.resume).expanduser()
    if not (folder / STATE).is_file():
        seen = f"has no {STATE}" if folder.is_dir() else "is not a folder"
        raise ModelFileError(f"{folder} {seen}; expected a run that fastmlp train began.")
    config = read_config(folder / CONFIG)
    options = config.get("options")
    blank_options = resolve(args.parser.parse_args([]), None)  # of a set with defaults by name
    if not isinstance(options, dict):
        raise ModelFileError(f"{folder / CONFIG} is damaged: it has no options.")
    if set(options) != {*blank_options, "backend"}:
        other_options = ", ".join(sorted(set(options) ^ {*blank_options, "backend"}))
        raise ModelFileError(f"{folder / CONFIG} is of another version of fastmlp, by its options: {other_options}.")
    return folder, {key: config["data"].get(key) for key in DATA_OPTIONS}, options


def _config(
    source: dict[str, Any],
    options: dict[str, Any],
    data: Dataset,
    model: Module,
    loss: Loss,
    optimizer: optim.Optimizer,
) -> dict[str, Any]:
    return {
        "data": source,
        "options": options,
        "model": model.config(),
        "loss": loss.config(),
        "optimizer": optimizer.config(),
        "dataset": {
            "name": data.name,
            "task": data.task,
            "classes": None if data.classes is None else list(data.classes),
            "shapes": {part: list(getattr(data, part).shape) for part in ("X", "y", "X_test", "y_test")},
            "sha256": fingerprint(data),
        },
        "versions": {"fastmlp": __version__, "python": platform.python_version()}
        | {package: version_of(package) for package in ("numpy", "numba", "safetensors")},
    }


def _print_header(data: Dataset, options: dict[str, Any], model: Module, folder: Path) -> None:
    kind = f"{len(data.classes)} classes" if data.classes is not None else "regression"
    outputs = len(data.classes or (0,))
    sizes = "-".join(map(str, (data.X.shape[1], *options["hidden"], outputs)))
    batches = f"batches of {min(options['batch_size'], len(data.y))}"
    updates = min(options["accumulate"], ceil_div(len(data.y), options["batch_size"]))
    if updates > 1:
        batches += f", {updates} to an update"
    unit = "epochs" if options["epochs"] else "steps"
    length = f"{options[unit]:,} {unit if options[unit] != 1 else unit[:-1]}"
    extra = "".join(
        f", {key.replace('_', ' ')} {options[key]:g}"
        for key in ("momentum", "weight_decay")
        if options[key] is not None
    )
    changes = [
        name if options[name] is True else f"{name} {options[name]:g}"
        for name in ("flip", "mixup", "noise")
        if options[name]
    ]
    augment = f"augment    {', '.join(changes)}\n" if changes else ""
    precision = "" if model.precision == "float32" else f" in {model.precision}"
    print(
        f"data       {data.name}: {len(data.y):,} training and {len(data.y_test):,} test rows, "
        f"{data.X.shape[1]:,} {'feature' if data.X.shape[1] == 1 else 'features'} ({data.X.dtype}), {kind}\n"
        f"{''.join(f'{line}' + chr(10) for line in described_columns(data))}"
        f"model      {sizes} {options['activation']}, {model.num_parameters:,} parameters ({model.dtype}), "
        f"normalize {options['normalize']}, init {options['init']}\n"
        f"optimizer  {options['optimizer']}, lr {options['lr']:g}{extra}; {length}, {batches}\n"
        f"{augment}"
        f"backend    {model.backend_name}{precision}, seed {options['seed']}\n"
        f"run        {folder}\n",
        flush=True,
    )


def _draw(trainer: Trainer, options: dict[str, Any], dataset: str, folder: Path) -> str | None:
    """Draw the curves; why there are none."""
    layers = ",".join(map(str, options["hidden"])) or "none"
    title = (
        f"{dataset}: hidden {layers}, {options['activation']}, {options['optimizer']} lr {options['lr']:g}, "
        f"batches of {options['batch_size']}"
    )
    return draw_curves(trainer.history, title, folder / CURVES)


def _print_end(ending: str, trainer: Trainer, data: Dataset, folder: Path, no_curves: str | None) -> None:
    def measures(evaluator: Evaluator) -> str:
        result = evaluator.evaluate(data.X_test, data.y_test)
        return ", ".join(f"test {key} {shown_metric(value, 4)}" for key, value in result.items())

    print(f"\n{ending}: {measures(trainer)}")
    files = [name for name in (MODEL, STATE, CONFIG, METRICS, CURVES) if (folder / name).is_file()]
    if trainer.optimizer.average is not None and trainer.steps:
        print(f"{AVERAGE}: {measures(Evaluator(trainer.averaged_model(), trainer.loss))}")
        files.append(AVERAGE)
    print(f"saved {folder}: {', '.join(files)}")
    if no_curves:
        print(f"no {CURVES}: {no_curves}")
