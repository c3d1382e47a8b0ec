"""``fastmlp train``: training of a model, with a run folder as the result."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .. import optim
from .._common.arithmetic import ceil_div
from .._common.errors import DivergenceError, ModelFileError
from .._common.group import Group
from ..callbacks import EarlyStopping, MetricsFile, SaveModel
from ..callbacks.loggers import TensorBoard
from ..callbacks.progress import ProgressBar
from ..callbacks.saving import SaveState
from ..datasets import Dataset
from ..losses import Loss
from ..modules import Module
from ..modules.saving import save
from ..training.augmentation import Augmentation, Augmentations
from ..training.evaluator import Evaluator
from ..training.ranks import Ranks, together
from ..training.row_order import RowOrder
from ..training.trainer import Trainer
from . import train_tabular
from .console import MetricsTable, format_metric
from .curves import draw_curves
from .data import (
    DATA_OPTIONS,
    check_test_rows,
    data_options,
    describe_columns,
    fingerprint,
    load_data,
    targets_digest,
    with_table_format,
)
from .defaults import describe_defaults
from .options import INTERRUPTED, UsageError, add_data_options, config_arguments, print_json
from .ranks import describe_ranks, open_group, run_on_ranks
from .runs import (
    AVERAGE,
    CONFIG,
    CURVES,
    METRICS,
    MODEL,
    STATE,
    describe_machine,
    make_folder,
    read_config,
    remove_old_run,
    write_config,
)  # fmt: skip
from .train_options import SHUFFLES, add_options, resolve, row_order
from .train_parts import augmentations, make_trainer
from .train_tabular import takes_ensemble

__all__ = ["Hooks", "add_parser", "run", "with_config"]


def add_parser(commands: Any) -> None:
    """Add the command's parser."""
    parser = commands.add_parser(
        "train",
        help="train a model on a data set",
        description="Train a multilayer perceptron, or an ensemble on a table (.csv, .tsv, .parquet),\n"
        "and save it in a run folder with its configuration, metrics and curves. It is\n"
        "evaluated on the test rows of the data set. Without kernels that were compiled\n"
        "during the installation (see fastmlp info) the first run on a machine also\n"
        "compiles them, for about 20 s.",
        epilog=describe_defaults(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.set_defaults(run=run, parser=parser)
    add_data_options(parser, "digits", "digits, included in fastmlp")
    add_options(parser)


class Hooks(NamedTuple):
    """Parts of a run that a sweep replaces.

    Attributes
    ----------
    load : callable
        Called with data options and a dtype; returns the data set.
    source : dict or None
        Data options with absolute file names; None for those of the command.
    callbacks : sequence of callbacks
        Called after those of the command.
    curves : bool
        Whether to draw the curves.
    """

    load: Callable[[dict[str, Any], str], Dataset] = load_data
    source: dict[str, Any] | None = None
    callbacks: Sequence[Any] = ()
    curves: bool = True


_NO_HOOKS = Hooks()


def run(args: argparse.Namespace, hooks: Hooks = _NO_HOOKS) -> int:
    """Run the command, and return its exit code."""
    if args.config is not None:
        args = with_config(args)
    group = open_group(args)
    if group is None:
        return _run(args, hooks, None)
    return run_on_ranks(group, lambda: _run(args, hooks, group))


class _Prepared(NamedTuple):
    """Parts of a run, of which rank 0 alone has made the folder."""

    data: Dataset
    options: dict[str, Any]
    order: RowOrder
    trainer: Trainer
    augment: list[Augmentation]
    folder: Path
    resumed: bool


def _prepare(args: argparse.Namespace, hooks: Hooks, group: Group | None) -> _Prepared:
    """Load the data, and make the model and the run folder."""
    resumed = None if args.resume is None else _load_resumed(args)
    folder = Path()
    if resumed is None:
        source = data_options(args) if hooks.source is None else hooks.source
        data = hooks.load(source, args.dtype)
        source, options = (
            with_table_format(source, data.preprocessing if data.digest is None else None),
            resolve(args, data),
        )
    else:
        folder, source, options = resumed
        data = hooks.load(source, options["dtype"])
        args.tensorboard, args.backend = bool(options["tensorboard"]), options["backend"]
    try:
        model, loss, optimizer, trainer = make_trainer(args.backend, options, data)
    except (KeyError, TypeError) as error:
        if resumed is None:
            raise
        raise ModelFileError(f"{folder / CONFIG} is damaged: an option has the value {error}.") from error
    options["backend"] = model.backend_name
    order = row_order(options["shuffle"], data)
    options["shuffle"] = order.kind
    if group is not None or options["pieces"] is not None:
        batch = min(options["batch_size"], len(data.y))
        ranks = Ranks(group, options["pieces"], batch)
        options["pieces"] = ranks.label
        if group is not None and args.threads is None:
            args.threads = ranks.threads(model, batch)

    check_test_rows(data.name, data.y, data.y_test, data.classes)
    augment = augmentations(options, data)
    Augmentations(augment, model, data.X.shape[1], model.out_width or 1, model.dtype or np.dtype("float32"))
    if resumed is None and _leads(group):
        folder = make_folder(args.out, args.dataset, args.force)
        # If this fails, the run that --force overwrites is still complete.
        save(model, folder / MODEL, preprocessing=data.preprocessing)
        remove_old_run(folder)
        write_config(folder, _config(source, options, data, model, loss, optimizer))
    return _Prepared(data, options, order, trainer, augment, folder, resumed is not None)


def _leads(group: Group | None) -> bool:
    return group is None or group.rank == 0


def _run(args: argparse.Namespace, hooks: Hooks, group: Group | None) -> int:
    """Train a model as a single process, or as one of the ranks of a group."""
    with together(group):
        if args.resume is None and takes_ensemble(args):
            return train_tabular.run(args)
        if args.resume is not None and _is_complete_ensemble(args):
            return 0
        run = _prepare(args, hooks, group)
    data, options, order, trainer, augment, folder, resumed = run
    quiet = args.quiet or args.json or not _leads(group)
    bar = not (quiet or args.no_progress) and sys.stderr is not None and sys.stderr.isatty()
    callbacks = [*_callbacks(args, options, data, trainer, folder), *hooks.callbacks] if _leads(group) else []
    if bar:
        callbacks.append(ProgressBar(lines=False))
    table = MetricsTable(bar)
    if not quiet:
        ranks = describe_ranks(group, args.threads, options["pieces"])
        _print_header(data, options, order, trainer.model, folder, ranks)
        callbacks.append(table)
    if args.json and _leads(group):
        print_json(event="start", run=str(folder), config=read_config(folder / CONFIG))
        callbacks.append(lambda trainer, record: print_json(event="evaluation", **record))

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
            shuffle=False if options["shuffle"] == "none" else options["shuffle"],
            augment=augment,
            resume=folder / STATE if resumed else None,
            group=group,
            pieces=options["pieces"],
        )
    except KeyboardInterrupt:
        ending, code = f"stopped by Ctrl-C after {trainer.steps:,} of {trainer.planned_steps:,} steps", INTERRUPTED
    except DivergenceError as error:
        if _leads(group) and hooks.curves:
            _draw(trainer, options, data.name, folder)
        raise DivergenceError(f"{error} They are saved in {folder / MODEL}.") from error
    if not _leads(group):
        return code
    if ending == "done" and resumed and table.empty:
        ending = f"this run was already complete after {trainer.steps:,} steps"
    elif ending == "done" and trainer.steps < trainer.planned_steps:
        ending = f"stopped early after {trainer.steps:,} of {trainer.planned_steps:,} steps"
    if trainer.restored is not None:
        ending += f", with the weights of step {trainer.restored:,}"
    no_curves = _draw(trainer, options, data.name, folder) if hooks.curves else None
    if args.json:
        print_json(event="end", run=str(folder), ending=ending, **_last(trainer))
    elif not quiet:
        _print_summary(run, ending, table, code, no_curves)
    return code


def _last(trainer: Trainer) -> dict[str, Any]:
    """Return the evaluation whose weights the model has; empty without one."""
    kept = trainer.steps if trainer.restored is None else trainer.restored
    return next((record for record in trainer.history if record["step"] == kept), {})


def _print_summary(run: _Prepared, ending: str, table: MetricsTable, code: int, no_curves: str | None) -> None:
    trainer, folder = run.trainer, run.folder
    if not table.empty:
        print()
    _print_end(ending, trainer, run.data, folder, no_curves)
    if trainer.threads and (trainer.mean_threads or 1) < _FEWER * trainer.threads:
        print(
            f"trained on {trainer.mean_threads:.1f} of {trainer.threads} threads on average, "
            "as threads waited for other processes or for a disk"
        )
    if code == INTERRUPTED and (folder / STATE).is_file():
        print(f"to resume: fastmlp train --resume {folder}")


def with_config(args: argparse.Namespace) -> argparse.Namespace:
    """Return the options of the file --config, overridden by those of the command line."""
    parser = args.parser
    from_file = config_arguments(args.config, parser)
    parser.prefix = f"{args.config}: "
    parser.parse_args(from_file)
    parser.prefix = ""
    if args.steps is not None or args.epochs is not None:  # either of them overrides both in the file
        lengths = tuple(f"{spelling}=" for spelling in ("--steps", "--max_steps", "--epochs"))
        from_file = [option for option in from_file if not option.startswith(lengths)]
    merged: argparse.Namespace = parser.parse_args([*from_file, *args.argv[1:]])
    merged.argv, merged.arguments = args.argv, [*from_file, *args.argv[1:]]
    return merged


def _callbacks(
    args: argparse.Namespace, options: dict[str, Any], data: Dataset, trainer: Trainer, folder: Path
) -> list[Any]:
    """Return the callbacks that write the files of the run, and early stopping."""
    callbacks: list[Any] = [MetricsFile(folder / METRICS)]
    if options["early_stopping"] is not None:
        callbacks.append(EarlyStopping(options["early_stopping"]))
    callbacks.append(SaveState(folder / STATE, every_minutes=args.save_minutes))
    callbacks.append(SaveModel(folder / MODEL, preprocessing=data.preprocessing, at_begin=args.resume is None))
    if trainer.optimizer.average is not None:
        callbacks.append(SaveModel(folder / AVERAGE, preprocessing=data.preprocessing, average=True))
    if args.tensorboard:
        callbacks.append(TensorBoard(folder / "tensorboard"))
    return callbacks


_FEWER = 0.9  # mean number of threads, as a share of the largest, below which the summary says so
# Options that may be combined with --resume.
_WITH_RESUME = ("resume", "threads", "quiet", "json", "no_progress", "save_minutes", "distributed", "timeout")


def _is_complete_ensemble(args: argparse.Namespace) -> bool:
    """Return whether --resume names the run of a complete ensemble, and say so; raise ModelFileError for others."""
    folder = Path(args.resume).expanduser()
    if (folder / STATE).is_file() or not (folder / CONFIG).is_file() or "estimator" not in read_config(folder / CONFIG):
        return False
    _reject_others(args)
    if not (folder / MODEL).is_file():
        raise ModelFileError(f"{folder} has no {MODEL}; ensembles are not resumed, train it again with --force.")
    if not args.quiet:
        print(f"done: this run was already complete, see fastmlp info {folder}")
    return True


def _reject_others(args: argparse.Namespace) -> None:
    """Raise UsageError for an option that cannot be combined with --resume."""
    blank = vars(args.parser.parse_args([]))
    other = next(
        (key for key, value in vars(args).items() if key in blank and value != blank[key] and key not in _WITH_RESUME),
        None,
    )
    if other is not None:
        raise UsageError(
            f"--{other.replace('_', '-')} cannot be combined with --resume, which uses the options of the run."
        )


def _load_resumed(args: argparse.Namespace) -> tuple[Path, dict[str, Any], dict[str, Any]]:
    """Return (folder, data options, training options) of the run of --resume."""
    _reject_others(args)
    folder = Path(args.resume).expanduser()
    if not (folder / STATE).is_file():
        seen = f"has no {STATE}" if folder.is_dir() else "is not a folder"
        raise ModelFileError(f"{folder} {seen}; expected a run folder of fastmlp train.")
    config = read_config(folder / CONFIG)
    options = config.get("options")
    if isinstance(options, dict):  # runs before --shuffle and --pieces
        options = {"shuffle": "full", "pieces": None, **options}
    blank_options = resolve(args.parser.parse_args([]), None)  # the default data set has defaults by name
    if not isinstance(options, dict):
        raise ModelFileError(f"{folder / CONFIG} is damaged: it has no options; expected a file of fastmlp train.")
    if set(options) != {*blank_options, "backend"}:
        other_options = ", ".join(sorted(set(options) ^ {*blank_options, "backend"}))
        raise ModelFileError(
            f"{folder / CONFIG} was written by another version of fastmlp: its options differ by {other_options}."
        )
    if options["shuffle"] not in SHUFFLES:
        raise ModelFileError(
            f"{folder / CONFIG} is damaged: shuffle is {options['shuffle']!r}; expected one of {SHUFFLES}."
        )
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
            "targets_sha256": None if data.digest is not None else targets_digest(data.y, data.y_test, data.classes),
        },
        **describe_machine(),
    }


def _print_header(
    data: Dataset, options: dict[str, Any], order: RowOrder, model: Module, folder: Path, ranks: str
) -> None:
    kind = f"{len(data.classes)} classes" if data.classes is not None else "regression"
    outputs = len(data.classes or (0,))
    sizes = "-".join(map(str, (data.X.shape[1], *options["hidden"], outputs)))
    batches = f"batches of {min(options['batch_size'], len(data.y))}"
    updates = min(options["accumulate"], ceil_div(len(data.y), options["batch_size"]))
    if updates > 1:
        batches += f", {updates} per update"
    unit = "epochs" if options["epochs"] else "steps"
    length = f"{options[unit]:,} {unit if options[unit] != 1 else unit[:-1]}"
    extra = "".join(
        f", {key.replace('_', ' ')} {options[key]:g}"
        for key in ("momentum", "weight_decay")
        if options[key] is not None
    )
    augment = [
        name if options[name] is True else f"{name} {options[name]:g}"
        for name in ("flip", "mixup", "noise")
        if options[name]
    ]
    order_line = "" if order.kind == "full" else f"order      {order}\n"
    augment_line = f"augment    {', '.join(augment)}\n" if augment else ""
    precision = "" if model.precision == "float32" else f" in {model.precision}"
    print(
        f"data       {data.name}: {len(data.y):,} training and {len(data.y_test):,} test rows, "
        f"{data.X.shape[1]:,} {'feature' if data.X.shape[1] == 1 else 'features'} ({data.X.dtype}), {kind}\n"
        f"{''.join(f'{line}' + chr(10) for line in describe_columns(data))}"
        f"model      {sizes} {options['activation']}, {model.num_parameters:,} parameters ({model.dtype}), "
        f"normalize {options['normalize']}, init {options['init']}\n"
        f"optimizer  {options['optimizer']}, lr {options['lr']:g}{extra}; {length}, {batches}\n"
        f"{order_line}"
        f"{augment_line}"
        f"{ranks}"
        f"backend    {model.backend_name}{precision}, seed {options['seed']}\n"
        f"run        {folder}\n",
        flush=True,
    )


def _draw(trainer: Trainer, options: dict[str, Any], dataset: str, folder: Path) -> str | None:
    """Draw the curves; return None, or the reason why no picture was drawn."""
    layers = ",".join(map(str, options["hidden"])) or "none"
    title = (
        f"{dataset}: hidden {layers}, {options['activation']}, {options['optimizer']} lr {options['lr']:g}, "
        f"batches of {options['batch_size']}"
    )
    return draw_curves(trainer.history, title, folder / CURVES)


def _print_end(ending: str, trainer: Trainer, data: Dataset, folder: Path, no_curves: str | None) -> None:
    def measures(evaluator: Evaluator) -> str:
        result = evaluator.evaluate(data.X_test, data.y_test)
        return ", ".join(f"test {key} {format_metric(value, 4)}" for key, value in result.items())

    print(f"{ending}: {measures(trainer)}")
    files = [name for name in (MODEL, STATE, CONFIG, METRICS, CURVES) if (folder / name).is_file()]
    if trainer.optimizer.average is not None and trainer.steps:
        print(f"{AVERAGE}: {measures(Evaluator(trainer.averaged_model(), trainer.loss))}")
        files.append(AVERAGE)
    print(f"saved {folder}: {', '.join(files)}")
    if no_curves:
        print(f"no {CURVES}: {no_curves}")
