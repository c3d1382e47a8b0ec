"""``fastmlp warmup``: compilation of the kernels before a first fit."""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np

from .._common.errors import PerformanceWarning
from .._kernels import compiles, use_backend, watch_compilation
from ..inference.predictor import Predictor
from ..losses import loss_types
from ..modules import MLP, Normalize, Sequential, Softmax, activation_names
from ..optim import optimizer_types
from ..optim.keep_gradient import KeepGradient
from ..training.augmentation import GaussianNoise, HorizontalFlip, Mixup
from ..training.trainer import Trainer
from .info import kernel_cache

__all__ = ["add_parser"]

# Activations, losses, optimizers, and dtypes of the rows.
_PLAIN = (
    ("relu", "elu", "tanh"),
    ("CrossEntropyLoss", "MSELoss", "BCEWithLogitsLoss"),
    ("sgd", "adam"),
    ("uint8", "float32"),
)


def _everything() -> tuple[tuple[str, ...], ...]:
    names = [kind.__name__ for kind in loss_types()]
    return (
        activation_names(),
        (*_PLAIN[1], *(name for name in names if name not in _PLAIN[1]), "CrossEntropyLoss of probabilities"),
        (*optimizer_types(), "keepgradient"),
        (*_PLAIN[3], "float64"),
    )


def add_parser(commands: Any) -> None:
    """Add the command's parser."""
    parser = commands.add_parser(
        "warmup",
        help="compile the kernels before a first run",
        description="Compile the kernels of training and prediction into the cache, by training tiny models, so that "
        "the first real run starts at once. Without --all these are: the activations relu, elu and tanh; the losses "
        "CrossEntropyLoss, MSELoss and BCEWithLogitsLoss; the optimizers SGD and Adam; rows of uint8 and of floats. "
        "Kernels in the cache are not compiled again.",
        allow_abbrev=False,
    )
    parser.set_defaults(run=run)
    parser.add_argument(
        "--dtype",
        choices=("float32", "float64"),
        action="append",
        help="dtype of the models; may be repeated (default: float32)",
    )
    parser.add_argument("--all", action="store_true", help="every activation, loss, optimizer, layer and augmentation")


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    if not compiles():
        print("There is nothing to compile: the kernels were compiled when fastmlp was installed.")
        return 0
    start, compiled = time.perf_counter(), 0
    with use_backend("numba"), warnings.catch_warnings():
        warnings.simplefilter("ignore", PerformanceWarning)  # that the kernels are compiled
        for dtype in dict.fromkeys(args.dtype or ["float32"]):
            for parts in _combinations(dtype, args.all):
                before = time.perf_counter()
                symbols: list[str] = []
                with watch_compilation(symbols.append):
                    _fit(dtype, *parts)
                    if args.all:
                        _fit(dtype, *parts, augmented=True, layer_norm=True, dropout=0.1)
                compiled += len(symbols)
                seconds = time.perf_counter() - before
                print(f"{dtype} {', '.join(parts):63s} {len(symbols):4d} compiled {seconds:6.1f} s", flush=True)
    print(f"{compiled} functions compiled in {time.perf_counter() - start:.1f} s; kernels are cached in")
    print(kernel_cache(count=True))
    return 0


def _combinations(dtype: str, everything: bool) -> Iterator[tuple[str, ...]]:
    """Yield (activation, loss, optimizer, dtype of the rows) of few fits in which each of them occurs.

    This suffices, as the kernels of each do not depend on the others.
    """
    choices = _everything() if everything else (*_PLAIN[:3], ("uint8", dtype))
    for i in range(max(map(len, choices))):
        yield tuple(names[i % len(names)] for names in choices)


def _fit(
    dtype: str, activation: str, loss: str, optimizer: str, source: str, *, augmented: bool = False, **layers: Any
) -> None:
    """Train a tiny model and predict with it."""
    rows, width, outputs = 24, 5, 3
    X = np.arange(rows * width).reshape(rows, width).astype(source)
    kinds = {kind.__name__: kind for kind in loss_types()}
    name, _, probabilities = loss.partition(" of ")
    y: np.ndarray = np.arange(rows) % outputs
    if kinds[name].target_kind != "labels":
        y = (y[:, None] == np.arange(outputs)).astype(dtype)
    model: Any = MLP(
        width, [4, 4], outputs, activation, normalize=Normalize.fit(X, dtype=dtype), dtype=dtype, rng=0, **layers
    )
    if probabilities:
        model = Sequential(model, Softmax())
    elif name == "MSELoss":  # like the regression models of `fastmlp train`, with outputs in the unit of the targets
        model = Sequential(model, Normalize(np.zeros(outputs), np.ones(outputs), dtype))
    measure = kinds[name](**({"from_logits": False} if probabilities else {}))
    trainer = Trainer(model, measure, {**optimizer_types(), "keepgradient": KeepGradient}[optimizer]())
    augment = [HorizontalFlip((1, width)), Mixup(), GaussianNoise(0.1)] if augmented else None
    trainer.fit(X, y, validation=(X, y), batch_size=8, epochs=1, rng=0, augment=augment)
    trainer.predict(X)
    Predictor(model)(X)
    if measure.task != "regression":
        trainer.predict_proba(X)
