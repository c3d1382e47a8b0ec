"""What ``fastmlp train`` does with a data set unless told otherwise."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ..datasets import Dataset
from ..optim import optimizer_types

__all__ = ["Defaults", "defaults_for", "describe_defaults"]


@dataclass(frozen=True)
class Defaults:
    """Options by data set; one of ``steps`` and ``epochs`` is None. ``eval_every`` None: each epoch."""

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
    # The seed's: MLP with one hidden layer, raw pixels less the mean image.
    "cifar10": Defaults((100,), "elu", "sgd", 1e-3, 200, "mean-image", "normal", steps=1400, eval_every=100),
    "mnist": Defaults((512, 512), "relu", "adam", 1e-3, 128, "unit", epochs=10),
    "fashion-mnist": Defaults((512, 512), "relu", "adam", 1e-3, 128, "unit", epochs=10),
}
_SMALL_TABLE = Defaults((100, 100), "relu", "adam", 1e-3, 32, "standard", epochs=30)
_LARGE_TABLE = replace(_SMALL_TABLE, batch_size=256, epochs=10)
_LARGE = 20_000  # rows


def defaults_for(data: Dataset, name: str) -> Defaults:
    """By name, and for tables by their length."""
    if name in _BY_NAME:
        return _BY_NAME[name]
    return _LARGE_TABLE if len(data.y) > _LARGE else _SMALL_TABLE


def describe_defaults() -> str:
    """A table of them for ``fastmlp train --help``."""
    lines = ["defaults by data set:"]
    for name, d in (
        *_BY_NAME.items(),
        ("tables", _SMALL_TABLE),
        (f"  of more than {_LARGE:,} rows", _LARGE_TABLE),
    ):
        length = f"{d.epochs} epochs" if d.epochs else f"{d.steps} steps"
        hidden = ",".join(map(str, d.hidden))
        lines.append(
            f"  {name}: --hidden {hidden} --activation {d.activation} --optimizer {d.optimizer} --lr {d.lr:g}\n"
            f"    --batch-size {d.batch_size} --normalize {d.normalize} --init {d.init}, {length}, evaluated every "
            + (f"{d.eval_every} steps" if d.eval_every else "epoch")
        )
    rates = ", ".join(f"{name} {kind.usual_lr:g}" for name, kind in optimizer_types().items())
    lines.append(f"With another optimizer than that, --lr is by default: {rates}.")
    lines.append("With several hidden layers --init is by default: default (PyTorch's).")
    return "\n".join(lines)
