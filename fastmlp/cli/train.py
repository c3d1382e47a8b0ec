"""``fastmlp train``: train a model and leave a run folder."""

from __future__ import annotations

import argparse
import platform
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from .. import __version__, optim
from .._kernels import get_backend, use_backend
from ..callbacks import EarlyStopping, MetricsFile, ProgressBar, SaveModel
from ..checkpoint import save
from ..datasets import Dataset
from ..errors import DataError, DivergenceError, ModelFileError
from ..init import NAMES as INITIALISERS
from ..logging_callbacks import TensorBoard
from ..losses import CrossEntropyLoss, Loss, MSELoss
from ..machine import version_of
from ..modules import MLP, Module, Normalize, Sequential
from ..saving import SaveState
from ..schedules import Constant, Cosine, LinearWarmup, OneCycle, ReduceOnPlateau, Schedule, StepDecay
from ..trainer import Trainer
from .console import MetricsTable
from .curves import draw_curves
from .data import DATA_OPTIONS, data_options, fingerprint, load_data
from .defaults import RATES, defaults_for, describe_defaults
from .options import UsageError, add_backend_option, add_data_options, at_least, config_arguments, number, widths
from .runs import CONFIG, CURVES, METRICS, MODEL, STATE, drop_old_run, make_folder, read_config, write_config

__all__ = ["add_parser"]

_ACTIVATIONS = (
    "relu", "elu", "leaky_relu", "tanh", "sigmoid", "gelu", "gelu_tanh", "silu", "softplus", "identity",
)  # fmt: skip
_SCHEDULES: dict[str, Callable[[float, int], Schedule]] = {
    "constant": lambda lr, steps: Constant(lr),
    "cosine": Cosine,
    "warmup-cosine": lambda lr, steps: LinearWarmup(Cosine(lr, steps), max(1, steps // 20)),
    "step": lambda lr, steps: StepDecay(lr, max(1, -(-steps // 3))),
    "one-cycle": OneCycle,
    "plateau": lambda lr, steps: ReduceOnPlateau(lr, patience=5),
}
_OPTIMIZERS = {
    "sgd": optim.SGD,
    "adam": optim.Adam,
    "adamw": optim.AdamW,
    "rmsprop": optim.RMSprop,
    "adagrad": optim.Adagrad,
}


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
    model = parser.add_argument_group("model")
    model.add_argument(
        "--hidden", "--dnn_hidden_units", type=widths, metavar="N,N,...", help='hidden layers; "" for none'
    )
    model.add_argument("--activation", choices=_ACTIVATIONS, metavar="NAME", help=", ".join(_ACTIVATIONS))
    model.add_argument(
        "--init", choices=INITIALISERS, metavar="NAME", help=f"how weights start: {', '.join(INITIALISERS)}"
    )
    model.add_argument(
        "--normalize",
        choices=("none", "mean-image", "standard", "unit"),
        help="input scaling, saved with the model: less the training mean; that over the standard deviation; "
        "or divided by the largest value",
    )
    model.add_argument(
        "--dropout", type=number(0, below=1), default=0.0, metavar="P", help="probability, after each hidden layer"
    )
    model.add_argument("--layer-norm", action="store_true", help="normalise each hidden layer before its activation")
    model.add_argument("--dtype", choices=("float32", "float64"), default="float32")
    training = parser.add_argument_group("training")
    training.add_argument("--optimizer", choices=_OPTIMIZERS)
    training.add_argument("--lr", "--learning_rate", type=number(0), metavar="RATE", help="learning rate")
    training.add_argument(
        "--schedule",
        choices=_SCHEDULES,
        default="constant",
        help="of the learning rate: cosine, linear warm-up and cosine, a tenth after each third, one cycle, "
        "or a tenth when the test loss has not fallen for 5 evaluations",
    )
    training.add_argument("--momentum", type=number(0), metavar="M", help="of sgd and rmsprop")
    training.add_argument("--weight-decay", type=number(0), metavar="D")
    length = training.add_mutually_exclusive_group()
    length.add_argument("--steps", "--max_steps", type=at_least(1), metavar="N", help="updates to make")
    length.add_argument("--epochs", type=at_least(1), metavar="N", help="passes over the training rows")
    training.add_argument("--batch-size", "--batch_size", type=at_least(1), metavar="N")
    training.add_argument(
        "--eval-every", "--eval_freq", type=at_least(1), metavar="N", help="steps between evaluations"
    )
    training.add_argument(
        "--early-stopping",
        type=at_least(1),
        metavar="N",
        help="end after N evaluations without a better test loss, and keep the best weights",
    )
    training.add_argument("--seed", type=at_least(0, 2**64 - 1), default=42, metavar="N", help="(default: 42)")
    add_backend_option(training)
    training.add_argument(
        "--threads",
        type=at_least(1),
        metavar="N",
        help="exactly so many; the result is the same (default: by the work of a step)",
    )
    output = parser.add_argument_group("output")
    output.add_argument("--config", metavar="FILE", help="options in a TOML file; those on the command line come first")
    output.add_argument(
        "--resume", metavar="RUN", help="go on with an interrupted run; takes no other options of model or training"
    )
    output.add_argument("--tensorboard", action="store_true", help="also write TensorBoard's files to the run folder")
    output.add_argument(
        "--save-minutes",
        type=number(0, above=True),
        default=5.0,
        metavar="M",
        help="save the state between evaluations too (default: 5)",
    )
    output.add_argument("--out", metavar="DIR", help="run folder (default: runs/<dataset>-<time>)")
    output.add_argument("--force", action="store_true", help="overwrite a run in --out")
    output.add_argument("--no-progress", action="store_true", help="no progress bar")
    output.add_argument("--quiet", action="store_true", help="print errors only")


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    if args.config is not None:
        given = args.parser.parse_args([*config_arguments(args.config), *args.argv[1:]])
        given.argv, args = args.argv, given
    resumed = None if args.resume is None else _resumable(args)
    if resumed is None:
        source = data_options(args)
        data = load_data(source)
        options = _resolve(args, data)
    else:
        folder, source, options = resumed
        data = load_data(source)
        args.tensorboard, args.backend = bool(options["tensorboard"]), options["backend"]
    try:
        model, loss, optimizer, trainer = _make(args, options, data)
    except (KeyError, TypeError) as error:
        if resumed is None:
            raise
        raise ModelFileError(f"{folder / CONFIG} is damaged: an option is {error}.") from error
    options["backend"] = model.backend_name

    if not len(data.y_test):
        raise DataError(f"{data.name} leaves no rows to test on: it has {len(data.y)}. Give more rows, or --test FILE.")
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
    if args.tensorboard:
        callbacks.append(TensorBoard(folder / "tensorboard"))
    if bar:
        callbacks.append(ProgressBar())
    if not args.quiet:
        _print_header(data, options, model, folder)
        callbacks.append(MetricsTable(bar))

    ending = "done"
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
            resume=None if resumed is None else folder / STATE,
        )
    except KeyboardInterrupt:
        ending = f"stopped by Ctrl-C after {trainer.steps:,} of {trainer.planned_steps:,} steps"
        if not args.quiet:
            print(f"\nto go on: fastmlp train --resume {folder}")
    except DivergenceError as error:
        _draw(trainer, options, data.name, folder)
        raise DivergenceError(f"{error} They are saved in {folder / MODEL}.") from error
    if ending == "done" and trainer.steps < trainer.planned_steps:
        ending = f"stopped early after {trainer.steps:,} of {trainer.planned_steps:,} steps"
    if trainer.restored is not None:
        ending += f", with the weights of step {trainer.restored:,}"
    no_curves = _draw(trainer, options, data.name, folder)
    if not args.quiet:
        _print_end(ending, trainer, data, folder, no_curves)
    return 0


def _make(
    args: argparse.Namespace, options: dict[str, Any], data: Dataset
) -> tuple[Module, Loss, optim.Optimizer, Trainer]:
    with use_backend(args.backend or get_backend().name):
        model, loss = _build(options, data)
        rates = {key: options[key] for key in ("momentum", "weight_decay") if options[key] is not None}
        rate = _SCHEDULES[options["schedule"]](options["lr"], _planned(options, data))
        optimizer = _OPTIMIZERS[options["optimizer"]](rate, **rates)
        return model, loss, optimizer, Trainer(model, loss, optimizer, classes=data.classes)


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
    blank_options = _resolve(args.parser.parse_args([]), None)  # of a set with defaults by name
    if not isinstance(options, dict) or set(options) != {*blank_options, "backend"}:
        raise ModelFileError(f"{folder / CONFIG} is damaged: its options are not those of this fastmlp's runs.")
    return folder, {key: config["data"].get(key) for key in DATA_OPTIONS}, options


def _planned(options: dict[str, Any], data: Dataset) -> int:
    """The steps of the whole run."""
    return int(options["steps"] or options["epochs"] * -(-len(data.y) // min(options["batch_size"], len(data.y))))


def _resolve(args: argparse.Namespace, data: Any) -> dict[str, Any]:
    """Every option of the training with its value, given or by default."""
    defaults = defaults_for(data, args.dataset)
    hidden = defaults.hidden if args.hidden is None else args.hidden
    optimizer = args.optimizer or defaults.optimizer
    if args.momentum is not None and optimizer not in ("sgd", "rmsprop"):
        raise UsageError(f"--momentum is for sgd and rmsprop, not for {optimizer}.")
    # Several hidden layers do not learn from weights of 1e-4: see `fastmlp.init.Normal`.
    init = "default" if len(hidden) > 1 else defaults.init
    rate = defaults.lr if optimizer == defaults.optimizer else RATES[optimizer]
    own_length = args.steps is None and args.epochs is None
    return {
        "hidden": list(hidden),
        "activation": args.activation or defaults.activation,
        "init": args.init or init,
        "normalize": args.normalize or defaults.normalize,
        "dtype": args.dtype,
        "optimizer": optimizer,
        "lr": rate if args.lr is None else args.lr,
        "momentum": args.momentum,
        "weight_decay": args.weight_decay,
        "steps": defaults.steps if own_length else args.steps,
        "epochs": defaults.epochs if own_length else args.epochs,
        "batch_size": args.batch_size or defaults.batch_size,
        "eval_every": args.eval_every or defaults.eval_every,
        "early_stopping": args.early_stopping,
        "dropout": args.dropout,
        "layer_norm": args.layer_norm,
        "schedule": args.schedule,
        "tensorboard": args.tensorboard,
        "seed": args.seed,
        "threads": args.threads,
    }


def _build(options: dict[str, Any], data: Dataset) -> tuple[Module, Loss]:
    classification = data.task == "classification"
    dtype = np.dtype(options["dtype"])
    normalize = _normalize(options["normalize"], data.X, dtype)
    outputs = len(data.classes or ()) if classification else 1
    mlp = MLP(
        data.X.shape[1],
        options["hidden"],
        outputs,
        options["activation"],
        init=options["init"],
        dropout=options["dropout"],
        layer_norm=options["layer_norm"],
        normalize=normalize,
        dtype=dtype,
        rng=options["seed"],
    )
    if classification:
        return mlp, CrossEntropyLoss()
    # Outputs of order 1 whatever the target's unit: y = x std + mean, as a Normalize of its own.
    mean, std = float(data.y.mean(dtype=np.float64)), float(data.y.std(dtype=np.float64))
    return Sequential(mlp, Normalize([-mean / std], [1 / std], dtype)), MSELoss()


def _normalize(kind: str, X: np.ndarray, dtype: np.dtype[Any]) -> Normalize | None:
    if kind == "none":
        return None
    if kind == "unit":
        largest = max(float(X.max()), -float(X.min())) or 1.0
        return Normalize(np.zeros(X.shape[1]), np.full(X.shape[1], largest), dtype)
    return Normalize.fit(X, "mean-image" if kind == "mean-image" else "standard", dtype)


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
    batch = min(options["batch_size"], len(data.y))
    length = f"{options['epochs']:,} epochs" if options["epochs"] else f"{options['steps']:,} steps"
    extra = "".join(
        f", {key.replace('_', ' ')} {options[key]:g}"
        for key in ("momentum", "weight_decay")
        if options[key] is not None
    )
    print(
        f"data       {data.name}: {len(data.y):,} training and {len(data.y_test):,} test rows, "
        f"{data.X.shape[1]:,} features ({data.X.dtype}), {kind}\n"
        f"model      {sizes} {options['activation']}, {model.num_parameters:,} parameters ({model.dtype}), "
        f"normalize {options['normalize']}, init {options['init']}\n"
        f"optimizer  {options['optimizer']}, lr {options['lr']:g}{extra}; {length}, batches of {batch}\n"
        f"backend    {model.backend_name}, seed {options['seed']}\n"
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
    result = trainer.evaluate(data.X_test, data.y_test)
    print(f"\n{ending}: " + ", ".join(f"test {key} {value:.4f}" for key, value in result.items()))
    files = [MODEL, STATE, CONFIG, METRICS] + ([] if no_curves else [CURVES])
    print(f"saved {folder}: {', '.join(files)}")
    if no_curves:
        print(f"no {CURVES}: {no_curves}")
