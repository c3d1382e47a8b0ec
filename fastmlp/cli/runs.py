"""Run folders: files written by ``fastmlp train`` and read by the other commands."""

from __future__ import annotations

import json
import os
import platform
import time
from pathlib import Path
from typing import Any

from .. import __version__
from .._common.errors import ModelFileError
from .._common.processor import processor, version_of
from .._common.threads import usable_threads
from ..io.files import atomic_write
from ..io.training_state import STATE
from ..losses import Loss
from ..losses.bce import BCEWithLogitsLoss
from ..losses.cross_entropy import CrossEntropyLoss
from ..losses.mse import MSELoss
from ..modules import Module
from ..modules.saving import MODEL, find_model, load_model, model_info
from .options import UsageError

__all__ = [
    "AVERAGE",
    "CONFIG",
    "CURVES",
    "METRICS",
    "MODEL",
    "STATE",
    "Saved",
    "describe_machine",
    "remove_old_run",
    "loss_for",
    "make_folder",
    "open_saved",
    "read_config",
    "write_config",
]

CONFIG, METRICS, CURVES, AVERAGE = "config.json", "metrics.jsonl", "curves.png", "average.safetensors"

# Types of the data options in config.json that are not strings.
_KINDS: dict[str, type] = {"test_size": float, "header": bool, "index": bool, "drop": list}


def make_folder(out: str | None, dataset: str, force: bool) -> Path:
    """Create the folder of a new run; a folder that is not empty requires ``force``.

    With ``force``, the files of the old run stay until `remove_old_run`.
    """
    if out == "":
        raise UsageError("--out is empty; expected a folder.")
    if out is None:
        stem = f"{Path(dataset).stem}-{time.strftime('%Y%m%d-%H%M%S')}"
        for number in range(1, 1000):
            folder = Path("runs", stem if number == 1 else f"{stem}-{number}")
            try:
                folder.mkdir(parents=True)
            except FileExistsError:
                if not Path("runs").is_dir():
                    raise
                continue  # another run started in the same second
            return folder
    folder = Path(os.path.expanduser(out or "runs"))
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"{folder} is a file; expected a new name or an empty folder for the run.")
    folder.mkdir(parents=True, exist_ok=True)
    if not force and any(folder.iterdir()):
        raise FileExistsError(f"{folder} is not empty; give another --out, or --force to overwrite it.")
    return folder


def remove_old_run(folder: Path) -> None:
    """Remove the files of an older run, after its model has been replaced."""
    for name in (CONFIG, METRICS, CURVES, STATE, AVERAGE):
        (folder / name).unlink(missing_ok=True)


def describe_machine(*packages: str) -> dict[str, Any]:
    """Return the entries of config.json on this machine, and on the versions of fastmlp, Python and some packages."""
    return {
        "machine": {"processor": processor(), "usable threads": usable_threads().count, "system": platform.platform()},
        "versions": {"fastmlp": __version__, "python": platform.python_version()}
        | {name: version_of(name) for name in ("numpy", "numba", "safetensors", *packages)},
    }


def write_config(folder: Path, config: dict[str, Any]) -> None:
    """Write config.json atomically."""
    with atomic_write(folder / CONFIG) as stream:
        stream.write(json.dumps(config, indent=2, allow_nan=False).encode() + b"\n")


class Saved:
    """A saved model with its preprocessing and the configuration of its run.

    Attributes
    ----------
    path : Path
        File of the model.
    model : Module
        The model.
    preprocessing : dict or None
        Conversion of table columns to features; None if the model was not trained on a table.
    config : dict or None
        Content of config.json if the model is in a run folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.preprocessing: dict[str, Any] | None = model_info(path)["preprocessing"]
        self.model: Module = load_model(path)
        self.config: dict[str, Any] | None = None
        config = path.parent / CONFIG
        if path.name in (MODEL, AVERAGE) and config.is_file():
            self.config = read_config(config)


def read_config(path: Path) -> dict[str, Any]:
    """Read and check config.json.

    Raises
    ------
    ModelFileError
        If the file is not one of `write_config`.
    """
    try:
        config: Any = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ModelFileError(f"{path} is damaged: {error}.") from error
    parts: list[Any] = (
        [config, *(config.get(key, {}) for key in ("data", "dataset"))] if isinstance(config, dict) else [None]
    )
    if not all(isinstance(part, dict) for part in parts) or not isinstance(parts[1].get("dataset"), str):
        raise ModelFileError(f"{path} is damaged: it does not name the data; expected a file of fastmlp train.")
    for key, value in parts[1].items():
        if value is not None and not isinstance(value, _KINDS.get(key, str)):
            raise ModelFileError(f"{path} is damaged: its {key} is {str(value)[:40]!r}.")
    return dict(config)


def open_saved(run_or_model: str) -> Saved:
    """Open the model of a run folder, or a saved model."""
    return Saved(find_model(run_or_model))


def loss_for(model: Module) -> Loss:
    """Return the loss for the task of a saved model."""
    outputs = {"classification": model.out_width, "binary": 2}.get(str(model.task))
    if model.classes is not None and outputs is not None:
        if len(model.classes) != outputs or not all(isinstance(c, (str, int, float)) for c in model.classes):
            raise ModelFileError(f"The model's classes are not {outputs} labels, one per class.")
    if model.task == "classification":
        last = list(model.modules())[-1]
        return CrossEntropyLoss(from_logits=not last.gives_probabilities)
    if model.task == "binary":
        return BCEWithLogitsLoss()
    if model.task == "regression":
        return MSELoss()
    raise ModelFileError(f"The model's task is {model.task!r}; expected a model that was trained with a Trainer.")
