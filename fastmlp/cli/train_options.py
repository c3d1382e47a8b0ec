"""The options of ``fastmlp train``, and what they are where they were not given."""

from __future__ import annotations

import argparse
import inspect
from typing import Any

from .._kernels import PRECISIONS
from ..modules import activation_names
from ..modules.init import NAMES as INITIALISERS
from ..optim import optimizer_types
from .defaults import defaults_for
from .options import UsageError, add_backend_option, at_least, number, widths
from .train_parts import SCHEDULES

__all__ = ["add_options", "resolve"]


def add_options(parser: argparse.ArgumentParser) -> None:
    """Options of the model, of training and of what is left behind."""
    model = parser.add_argument_group("model")
    model.add_argument(
        "--hidden", "--dnn_hidden_units", type=widths, metavar="N,N,...", help='hidden layers; "" for none'
    )
    model.add_argument("--activation", choices=activation_names(), metavar="NAME", help=", ".join(activation_names()))
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
    training.add_argument("--optimizer", choices=tuple(optimizer_types()))
    training.add_argument("--lr", "--learning_rate", type=number(0), metavar="RATE", help="learning rate")
    training.add_argument(
        "--schedule",
        choices=tuple(SCHEDULES),
        default="constant",
        help="of the learning rate: cosine, linear warm-up and cosine, a tenth after each third, one cycle, "
        "or a tenth when the test loss has not fallen for 5 evaluations",
    )
    training.add_argument("--momentum", type=number(0), metavar="M", help=f"of {' and '.join(_taking('momentum'))}")
    training.add_argument("--weight-decay", type=number(0), metavar="D")
    length = training.add_mutually_exclusive_group()
    length.add_argument("--steps", "--max_steps", type=at_least(1), metavar="N", help="updates to make")
    length.add_argument("--epochs", type=at_least(1), metavar="N", help="passes over the training rows")
    training.add_argument("--batch-size", "--batch_size", type=at_least(1), metavar="N")
    training.add_argument(
        "--accumulate", type=at_least(1), default=1, metavar="N", help="batches to an update (default: 1)"
    )
    training.add_argument(
        "--eval-every", "--eval_freq", type=at_least(1), metavar="N", help="steps between evaluations"
    )
    training.add_argument(
        "--early-stopping",
        type=at_least(1),
        metavar="N",
        help="end after N evaluations without a better test loss, and keep the best weights",
    )
    training.add_argument(
        "--noise", type=number(0), metavar="STD", help="Gaussian noise on the scaled inputs, anew at each step"
    )
    training.add_argument(
        "--mixup", type=number(1e-6), metavar="ALPHA", help="train on mixtures of rows, shares from Beta(A, A)"
    )
    training.add_argument(
        "--flip", action="store_true", help="turn half of the images left to right, anew at each step"
    )
    training.add_argument(
        "--average",
        type=number(0, below=1),
        metavar="DECAY",
        help="keep a moving average of the weights too, and save that model beside the other",
    )
    training.add_argument("--seed", type=at_least(0, 2**64 - 1), default=42, metavar="N", help="(default: 42)")
    add_backend_option(training)
    training.add_argument(
        "--precision",
        choices=list(PRECISIONS),
        default=PRECISIONS[0],
        help="of products; all but float32 need a GPU's tensor cores (default: float32)",
    )
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
    output.add_argument("--quiet", action="store_true", help="print errors and notes only")


def _taking(argument: str) -> list[str]:
    """The optimizers that have an argument of this name."""
    return [name for name, kind in optimizer_types().items() if argument in inspect.signature(kind).parameters]


def resolve(args: argparse.Namespace, data: Any) -> dict[str, Any]:
    """Every option of the training with its value, given or by default."""
    defaults = defaults_for(data, args.dataset)
    hidden = defaults.hidden if args.hidden is None else args.hidden
    optimizer = args.optimizer or defaults.optimizer
    for argument in ("momentum", "weight_decay"):
        taking = _taking(argument)
        if getattr(args, argument) is not None and optimizer not in taking:
            option = argument.replace("_", "-")
            raise UsageError(f"--{option} is for {' and '.join(taking)}, not for {optimizer}.")
    if args.flip and data is not None and data.image_shape is None:
        raise UsageError(f"--flip is for images; {data.name} has none.")
    if args.precision != PRECISIONS[0] and args.dtype == "float64":
        raise UsageError(f"--precision {args.precision} is for models of float32, not of --dtype float64.")
    # Several hidden layers do not learn from weights of 1e-4: see `fastmlp.modules.init.Normal`.
    init = "default" if len(hidden) > 1 else defaults.init
    rate = defaults.lr if optimizer == defaults.optimizer else optimizer_types()[optimizer].usual_lr
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
        "accumulate": args.accumulate,
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
    }
