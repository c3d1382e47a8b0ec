"""Model, loss, optimizer and augmentations for the options of ``fastmlp train``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .. import optim
from .._common.arithmetic import ceil_div
from .._common.sums import deviation
from .._kernels import get_backend, use_backend
from ..datasets import Dataset
from ..losses import Loss
from ..losses.cross_entropy import CrossEntropyLoss
from ..losses.mse import MSELoss
from ..modules import MLP, Module, Normalize, Sequential
from ..optim.schedules import Constant, Cosine, LinearWarmup, OneCycle, ReduceOnPlateau, Schedule, StepDecay
from ..training.augmentation import Augmentation, GaussianNoise, HorizontalFlip, Mixup
from ..training.trainer import Trainer

__all__ = ["SCHEDULES", "augmentations", "make_trainer"]

SCHEDULES: dict[str, Callable[[float, int], Schedule]] = {
    "constant": lambda lr, steps: Constant(lr),
    "cosine": Cosine,
    "warmup-cosine": lambda lr, steps: LinearWarmup(Cosine(lr, steps), max(1, steps // 20)),
    "step": lambda lr, steps: StepDecay(lr, max(1, ceil_div(steps, 3))),
    "one-cycle": OneCycle,
    "plateau": lambda lr, steps: ReduceOnPlateau(lr, patience=5),
}


def make_trainer(
    backend: str | None, options: dict[str, Any], data: Dataset
) -> tuple[Module, Loss, optim.Optimizer, Trainer]:
    """Return (model, loss, optimizer, trainer) for resolved options, on ``backend`` or the current backend."""
    with use_backend(backend or get_backend().name):
        model, loss = _model_and_loss(options, data)
        rates = {key: options[key] for key in ("momentum", "weight_decay") if options[key] is not None}
        rate = SCHEDULES[options["schedule"]](options["lr"], _planned(options, data))
        optimizer = optim.optimizer_types()[options["optimizer"]](rate, **rates)
        more = {key: options[key] for key in ("average", "precision")}
        trainer = Trainer(model, loss, optimizer, classes=data.classes, **more)
        return model, loss, optimizer, trainer


def augmentations(options: dict[str, Any], data: Dataset) -> list[Augmentation]:
    """Return the augmentations of the training rows."""
    found: list[Augmentation] = []
    if options["flip"] and data.image_shape is not None:
        # The channels may be the last dimension: the one that differs from two equal ones, or else the smaller one.
        first, second, last = data.image_shape
        channels_last = first == second if (first == second) != (second == last) else last < first
        found.append(HorizontalFlip(data.image_shape, axis=1 if channels_last else 2))
    if options["mixup"]:
        found.append(Mixup(options["mixup"]))
    if options["noise"]:
        found.append(GaussianNoise(options["noise"]))
    return found


def _planned(options: dict[str, Any], data: Dataset) -> int:
    """Return the number of steps of the whole run."""
    rows = min(options["batch_size"] * options["accumulate"], len(data.y))
    return int(options["steps"] or options["epochs"] * ceil_div(len(data.y), rows))


def _model_and_loss(options: dict[str, Any], data: Dataset) -> tuple[Module, Loss]:
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
    # A final Normalize converts outputs of order 1 to the unit of the target: y = x std + mean.
    mean, std = float(data.y.mean(dtype=np.float64)), deviation(data.y)
    return Sequential(mlp, Normalize([-mean / std], [1 / std], dtype)), MSELoss()


def _normalize(kind: str, X: np.ndarray, dtype: np.dtype[Any]) -> Normalize | None:
    if kind == "none":
        return None
    if kind == "unit":
        largest = max(float(X.max()), -float(X.min())) or 1.0
        return Normalize(np.zeros(X.shape[1]), np.full(X.shape[1], largest), dtype)
    return Normalize.fit(X, "mean-image" if kind == "mean-image" else "standard", dtype)
