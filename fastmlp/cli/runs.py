"""Run folders: what a run leaves behind, and how other commands find it again."""

from __future__ import annotations

import json
import os
import time
from importlib import metadata
from pathlib import Path
from typing import Any

from ..checkpoint import load_model, model_info
from ..errors import ModelFileError
from ..files import atomic_write
from ..losses import BCEWithLogitsLoss, CrossEntropyLoss, Loss, MSELoss
from ..modules import Module, Softmax

__all__ = [
    "CONFIG",
    "CURVES",
    "METRICS",
    "MODEL",
    "Saved",
    "loss_for",
    "make_folder",
    "open_saved",
    "version_of",
    "write_config",
]

MODEL, CONFIG, METRICS, CURVES = "model.safetensors", "config.json", "metrics.jsonl", "curves.png"


def make_folder(out: str | None, dataset: str, force: bool) -> Path:
    """Make the folder of a new run; one that holds anything is refused unless ``force``.

    With ``force`` the files of the old run are removed, so that no file of two runs stand side by side.
    """
    if out is None:
        stem = f"{Path(dataset).stem}-{time.strftime('%Y%m%d-%H%M%S')}"
        for number in range(1, 1000):
            folder = Path("runs", stem if number == 1 else f"{stem}-{number}")
            try:
                folder.mkdir(parents=True)
            except FileExistsError:
                if not Path("runs").is_dir():
                    raise
                continue  # another run began in this second
            return folder
    folder = Path(out or "runs").expanduser()
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"{folder} is a file; expected a folder for the run, or a name that is free.")
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        if not force:
            raise FileExistsError(f"{folder} is not empty; give another --out, or --force to overwrite it.")
        for name in (MODEL, CONFIG, METRICS, CURVES):
            (folder / name).unlink(missing_ok=True)
    return folder


def version_of(package: str) -> str | None:
    """The version of an installed package."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def write_config(folder: Path, config: dict[str, Any]) -> None:
    """Write config.json."""
    with atomic_write(folder / CONFIG) as stream:
        stream.write(json.dumps(config, indent=2, allow_nan=False).encode() + b"\n")


class Saved:
    """A saved model, and what is known about its run.

    Attributes
    ----------
    model : Module
    preprocessing : dict or None
    config : dict or None
        The run's config.json, if it stands beside the model.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.preprocessing: dict[str, Any] | None = model_info(path)["preprocessing"]
        self.model: Module = load_model(path)
        self.config: dict[str, Any] | None = None
        beside = path.parent / CONFIG
        if path.name == MODEL and beside.is_file():
            try:
                self.config = dict(json.loads(beside.read_bytes()))
            except (ValueError, TypeError) as error:
                raise ModelFileError(f"{beside} is damaged: {error}.") from error


def open_saved(run_or_model: str) -> Saved:
    """The model of a run folder, or in a file of its own."""
    path = Path(run_or_model).expanduser()
    if path.is_dir():
        if not (path / MODEL).exists():
            raise ModelFileError(f"{path} has no {MODEL}; expected a run folder or a saved model.")
        path /= MODEL
    elif not os.path.lexists(path):
        raise ModelFileError(f"{path} does not exist; expected a run folder or a saved model.")
    return Saved(path)


def loss_for(model: Module) -> Loss:
    """The loss that belongs to a saved model's task."""
    if model.task == "classification":
        last = list(model.modules())[-1]
        return CrossEntropyLoss(from_logits=not isinstance(last, Softmax))
    if model.task == "binary":
        return BCEWithLogitsLoss()
    if model.task == "regression":
        return MSELoss()
    raise ModelFileError(f"The model's task is {model.task!r}; expected one that a Trainer has trained.")
