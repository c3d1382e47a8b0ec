"""Options of ``fastmlp train`` and their default values."""

from __future__ import annotations

import argparse
import inspect
from typing import Any

from .._common.mapped import MappedFiles
from .._kernels import PRECISIONS
from ..datasets import Dataset
from ..modules import activation_names
from ..modules.init import NAMES as INITIALIZERS
from ..optim import optimizer_types
from ..training.row_order import RowOrder, choose_order
from .defaults import defaults_for
from .options import UsageError, add_backend_option, add_json_option, at_least, number, widths
from .ranks import add_rank_options
from .train_parts import SCHEDULES

__all__ = ["ENSEMBLE_OPTIONS", "SHUFFLES", "add_options", "resolve", "row_order"]

ENSEMBLE_OPTIONS = ("preset", "nets", "time_limit")
SHUFFLES = ("full", "windows", "none")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the model, the training and the output."""
    ensemble = parser.add_argument_group("ensembles (tables in .csv, .tsv and .parquet files)")
    ensemble.add_argument(
        "--plain", action="store_true", help="train a single network on one-hot columns and scaled numbers instead"
    )
    ensemble.add_argument(
        "--preset", metavar="NAME", help="fast (2 nets), balanced (8 nets, the default) or best (24 nets, longer fits)"
    )
    ensemble.add_argument("--nets", type=at_least(1), metavar="N", help="number of nets (default: by the preset)")
    ensemble.add_argument(
        "--time-limit",
        type=number(0, above=True),
        metavar="SECONDS",
        help="time of the training, after which the nets stop at the end of their epoch",
    )
    model = parser.add_argument_group("model")
    model.add_argument(
        "--hidden",
        "--dnn_hidden_units",
        type=widths,
        metavar="N,N,...",
        help='widths of the hidden layers; "" for none',
    )
    model.add_argument(
        "--activation",
        choices=activation_names(),
        metavar="NAME",
        help=f"after each hidden layer: {', '.join(activation_names())}",
    )
    model.add_argument(
        "--init", choices=INITIALIZERS, metavar="NAME", help=f"initializer of the weights: {', '.join(INITIALIZERS)}"
    )
    model.add_argument(
        "--normalize",
        choices=("none", "mean-image", "standard", "unit"),
        help="input scaling, saved with the model: mean-image subtracts the training mean, standard also divides by "
        "the standard deviation, unit divides by the largest value",
    )
    model.add_argument(
        "--dropout",
        type=number(0, below=1),
        default=0.0,
        metavar="P",
        help="dropout probability after each hidden layer (default: 0)",
    )
    model.add_argument("--layer-norm", action="store_true", help="normalize each hidden layer before its activation")
    model.add_argument(
        "--dtype", choices=("float32", "float64"), default="float32", help="of the parameters (default: float32)"
    )
    training = parser.add_argument_group("training")
    training.add_argument("--optimizer", choices=tuple(optimizer_types()), help="(default: by data set, see below)")
    training.add_argument(
        "--lr",
        "--learning_rate",
        type=number(0),
        metavar="RATE",
        help="learning rate (default: by data set, see below)",
    )
    training.add_argument(
        "--schedule",
        choices=tuple(SCHEDULES),
        default="constant",
        metavar="NAME",
        help=f"schedule of the learning rate: {', '.join(SCHEDULES)}; step divides it by 10 after each third of the "
        "run, plateau when the test loss has not improved for 5 evaluations (default: constant)",
    )
    training.add_argument(
        "--momentum", type=number(0), metavar="M", help=f"momentum of {' and '.join(_taking('momentum'))}"
    )
    training.add_argument(
        "--weight-decay", type=number(0), metavar="D", help="weight decay of the optimizer (default: PyTorch's)"
    )
    length = training.add_mutually_exclusive_group()
    length.add_argument("--steps", "--max_steps", type=at_least(1), metavar="N", help="number of updates")
    length.add_argument("--epochs", type=at_least(1), metavar="N", help="number of passes over the training rows")
    training.add_argument("--batch-size", "--batch_size", type=at_least(1), metavar="N", help="rows of a batch")
    training.add_argument(
        "--accumulate", type=at_least(1), default=1, metavar="N", help="batches per update (default: 1)"
    )
    training.add_argument(
        "--shuffle",
        choices=SHUFFLES,
        help="order of the rows of an epoch: full is a random order; windows are blocks of rows in random order, mixed "
        "within 64 blocks; none is that of the data (default: full; windows for packed tables larger than the free "
        "memory)",
    )
    training.add_argument(
        "--eval-every", "--eval_freq", type=at_least(1), metavar="N", help="updates between evaluations"
    )
    training.add_argument(
        "--early-stopping",
        type=at_least(1),
        metavar="N",
        help="stop after N evaluations without a better test loss, and keep the best weights",
    )
    training.add_argument(
        "--noise",
        type=number(0),
        metavar="STD",
        help="standard deviation of Gaussian noise that is added to the scaled inputs",
    )
    training.add_argument(
        "--mixup",
        type=number(1e-6),
        metavar="ALPHA",
        help="train on mixtures of two rows, with shares drawn from Beta(ALPHA, ALPHA)",
    )
    training.add_argument(
        "--flip", action="store_true", help="flip each image left to right with probability 0.5 at each step"
    )
    training.add_argument(
        "--average",
        type=number(0, below=1),
        metavar="DECAY",
        help="also save a model with an exponential moving average of the weights, average.safetensors",
    )
    training.add_argument(
        "--seed", type=at_least(0, 2**64 - 1), default=42, metavar="N", help="seed of all random numbers (default: 42)"
    )
    add_backend_option(training)
    training.add_argument(
        "--precision",
        choices=list(PRECISIONS),
        default=PRECISIONS[0],
        help="precision of matrix products; all but float32 need a GPU with tensor cores (default: float32)",
    )
    training.add_argument(
        "--threads",
        type=at_least(1),
        metavar="N",
        help="number of threads; does not change the result (default: chosen by the work of a step)",
    )
    add_rank_options(parser)
    output = parser.add_argument_group("output")
    output.add_argument(
        "--config", metavar="FILE", help="TOML file of options; options on the command line take precedence"
    )
    output.add_argument(
        "--resume", metavar="RUN", help="resume an interrupted run with its own options for model and training"
    )
    output.add_argument("--tensorboard", action="store_true", help="also write TensorBoard files to the run folder")
    output.add_argument(
        "--save-minutes",
        type=number(0, above=True),
        default=5.0,
        metavar="M",
        help="minutes after which the state is saved between evaluations (default: 5)",
    )
    output.add_argument("--out", metavar="DIR", help="run folder (default: runs/DATASET-TIME)")
    output.add_argument("--force", action="store_true", help="overwrite an existing run in --out")
    output.add_argument("--no-progress", action="store_true", help="show no progress bar")
    told = output.add_mutually_exclusive_group()
    told.add_argument("--quiet", action="store_true", help="print errors and notes only")
    add_json_option(told, "print a line of JSON at the start, for each evaluation, and at the end")


def row_order(shuffle: str | None, data: Dataset) -> RowOrder:
    """Return the order for the option --shuffle."""
    given = {None: True, "none": False}.get(shuffle, shuffle)
    return choose_order(given, MappedFiles((data.X, data.y)), data.X.shape[1])


def _taking(argument: str) -> list[str]:
    """The optimizers that have an argument of this name."""
    return [name for name, kind in optimizer_types().items() if argument in inspect.signature(kind).parameters]


def resolve(args: argparse.Namespace, data: Any) -> dict[str, Any]:
    """Return all training options with their values, given or default."""
    defaults = defaults_for(data, args.dataset)
    hidden = defaults.hidden if args.hidden is None else args.hidden
    optimizer = args.optimizer or defaults.optimizer
    for argument in ("momentum", "weight_decay"):
        taking = _taking(argument)
        if getattr(args, argument) is not None and optimizer not in taking:
            option = argument.replace("_", "-")
            raise UsageError(f"--{option} is for {' and '.join(taking)}, not for {optimizer}.")
    if args.flip and data is not None and data.image_shape is None:
        raise UsageError(f"--flip applies to images only; the rows of {data.name} are not images.")
    if args.precision != PRECISIONS[0] and args.dtype == "float64":
        raise UsageError(f"--precision {args.precision} applies to float32 models, not to --dtype float64.")
    # A network with several hidden layers does not learn from weights of 1e-4: see `fastmlp.modules.init.Normal`.
    init = "default" if len(hidden) > 1 else defaults.init
    rate = defaults.lr if optimizer == defaults.optimizer else optimizer_types()[optimizer].usual_lr
    default_length = args.steps is None and args.epochs is None
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
        "steps": defaults.steps if default_length else args.steps,
        "epochs": defaults.epochs if default_length else args.epochs,
        "batch_size": args.batch_size or defaults.batch_size,
        "accumulate": args.accumulate,
        "shuffle": args.shuffle,
        "eval_every": args.eval_every or defaults.eval_every,
        "early_stopping": args.early_stopping,
        "dropout": args.dropout,
        "layer_norm": args.layer_norm,
        "schedule": args.schedule,
        "noise": args.noise,
        "mixup": args.mixup,
        "flip": args.flip,
        "average": args.average,
        "precision": args.precision,
        "tensorboard": args.tensorboard,
        "seed": args.seed,
        "threads": args.threads,
        "pieces": args.pieces,
    }
