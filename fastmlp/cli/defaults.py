"""Default options of ``fastmlp train`` by data set."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass, replace

from ..datasets import Dataset
from ..optim import optimizer_types

__all__ = ["Defaults", "defaults_for", "describe_defaults"]


@dataclass(frozen=True)
class Defaults:
    """Default options of a data set.

    One of ``steps`` and ``epochs`` is None; ``eval_every`` None stands for an evaluation after each epoch.
    """

    hidden: tuple[int, ...]
    activation: str
    optimizer: str
    lr: float
    batch_size: int
    normalize: str
    init: str = "default"
    steps: int | None = None
    epochs: int | None = None
    eval_every: int | None = None


_BY_NAME = {
    "digits": Defaults((100,), "relu", "adam", 1e-3, 32, "standard", epochs=20),
    # The CIFAR-10 experiment: one hidden layer, raw pixels minus the mean image.
    "cifar10": Defaults((100,), "elu", "sgd", 1e-3, 200, "mean-image", "normal", steps=1400, eval_every=100),
    "mnist": Defaults((512, 512), "relu", "adam", 1e-3, 128, "unit", epochs=10),
    "fashion-mnist": Defaults((512, 512), "relu", "adam", 1e-3, 128, "unit", epochs=10),
}
_SMALL_TABLE = Defaults((100, 100), "relu", "adam", 1e-3, 32, "standard", epochs=30)
_LARGE_TABLE = replace(_SMALL_TABLE, batch_size=256, epochs=10)
_LARGE = 20_000  # rows


def defaults_for(data: Dataset, name: str) -> Defaults:
    """Return the defaults of a data set: by its name, or for a table by its number of rows."""
    if name in _BY_NAME:
        return _BY_NAME[name]
    return _LARGE_TABLE if len(data.y) > _LARGE else _SMALL_TABLE


def describe_defaults() -> str:
    """Return a list of the defaults for ``fastmlp train --help``."""
    lines = ["defaults by data set:"]
    for name, d in (
        *_BY_NAME.items(),
        ("tables", _SMALL_TABLE),
        (f"tables of more than {_LARGE:,} rows", _LARGE_TABLE),
    ):
        length = f"--epochs {d.epochs}" if d.epochs else f"--steps {d.steps}"
        hidden = ",".join(map(str, d.hidden))
        options = [
            f"--hidden {hidden}", f"--activation {d.activation}", f"--optimizer {d.optimizer}", f"--lr {d.lr:g}",
            f"--batch-size {d.batch_size}", f"--normalize {d.normalize}", f"--init {d.init}", length,
            *([f"--eval-every {d.eval_every}"] if d.eval_every else []),
        ]  # fmt: skip
        lines += _wrap(f"  {name}:", options)
    rates = ", ".join(f"{name} {kind.usual_lr:g}" for name, kind in optimizer_types().items())
    lines += [
        *textwrap.wrap(f"If --optimizer differs from these defaults, the default of --lr is: {rates}.", 79),
        "With several hidden layers the default of --init is default, PyTorch's",
        "initializer.",
        "Without --eval-every the model is evaluated after each epoch.",
    ]
    return "\n".join(lines)


def _wrap(title: str, options: list[str]) -> list[str]:
    """Return lines of at most 79 characters, which do not break between an option and its value."""
    lines = [title]
    for option in options:
        if len(lines[-1]) + 1 + len(option) > 79:
            lines.append("   ")
        lines[-1] += f" {option}"
    return lines
