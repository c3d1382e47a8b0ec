"""Run folders: what a run leaves behind, and how other commands find it again."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

from .._common.errors import ModelFileError
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
    "drop_old_run",
    "loss_for",
    "make_folder",
    "open_saved",
    "read_config",
    "write_config",
]

CONFIG, METRICS, CURVES, AVERAGE = "config.json", "metrics.jsonl", "curves.png", "average.safetensors"

# Of the data options in config.json that are no texts.
_KINDS: dict[str, type] = {"test_size": float, "header": bool, "index": bool, "drop": list}


def make_folder(out: str | None, dataset: str, force: bool) -> Path:
    """Make the folder of a new run; one that holds anything is refused unless ``force``.

    With ``force`` the files of the old run stay until `drop_old_run`.
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
                continue  # another run began in this second
            return folder
    folder = Path(os.path.expanduser(out or "runs"))
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"{folder} is a file; expected a folder for the run, or a name that is free.")
    folder.mkdir(parents=True, exist_ok=True)
    if not force and any(folder.iterdir()):
        raise FileExistsError(f"{folder} is not empty; give another --out, or --force to overwrite it.")
    return folder


def drop_old_run(folder: Path) -> None:
    """Remove what describes an older model, once the new one has taken its place."""
    for name in (CONFIG, METRICS, CURVES, STATE, AVERAGE):
        (folder / name).unlink(missing_ok=True)


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
        if path.name in (MODEL, AVERAGE) and beside.is_file():
            self.config = read_config(beside)


def read_config(path: Path) -> dict[str, Any]:
    """What config.json holds, if it is what `write_config` wrote."""
    try:
        config: Any = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ModelFileError(f"{path} is damaged: {error}.") from error
    parts: list[Any] = (
        [config, *(config.get(key, {}) for key in ("data", "dataset"))] if isinstance(config, dict) else [None]
    )
    if not all(isinstance(part, dict) for part in parts) or not isinstance(parts[1].get("dataset"), str):
        raise ModelFileError(f"{path} is damaged: it does not name the data; expected what fastmlp train wrote.")
    for key, value in parts[1].items():
        if value is not None and not isinstance(value, _KINDS.get(key, str)):
            raise ModelFileError(f"{path} is damaged: its {key} is {str(value)[:40]}.")
    return dict(config)


def open_saved(run_or_model: str) -> Saved:
    """The model of a run folder, or in a file of its own."""
    return Saved(find_model(run_or_model))


def loss_for(model: Module) -> Loss:
    """The loss that belongs to a saved model's task."""
    outputs = {"classification": model.out_width, "binary": 2}.get(str(model.task))
    if model.classes is not None and outputs is not None:
        if len(model.classes) != outputs or not all(isinstance(c, (str, int, float)) for c in model.classes):
            raise ModelFileError(f"The model's classes are not {outputs} labels, one for each of its answers.")
    if model.task == "classification":
        last = list(model.modules())[-1]
        return CrossEntropyLoss(from_logits=not last.gives_probabilities)
    if model.task == "binary":
        return BCEWithLogitsLoss()
    if model.task == "regression":
        return MSELoss()
    raise ModelFileError(f"The model's task is {model.task!r}; expected one that a Trainer has trained.")
