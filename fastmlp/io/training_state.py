"""Training states: files from which a fit resumes with the same bits as an uninterrupted fit.

The metadata are text: ``format`` ("fastmlp-training"), ``format_version``, ``fastmlp_version``, ``identity`` (JSON:
configurations, arguments, fingerprint of the data, kernels; a resumed fit must have the same) and ``progress`` (JSON:
steps, position in the epoch, history, state of the callbacks). The tensors are those of the model
(``model.<name>``), of the optimizer (``optimizer.<parameter>.<kind>``) and of callbacks (``callbacks.<index>.<name>``).
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

from .._common.errors import ModelFileError
from .._common.validation import Array
from .tensor_file import read_tensors, write_tensors

__all__ = ["STATE", "read_training_state", "write_training_state"]

FORMAT, FORMAT_VERSION = "fastmlp-training", 1
STATE = "training.safetensors"  # in a run folder


def write_training_state(path: str | os.PathLike[str], state: Mapping[str, Any]) -> None:
    """Save the state of a fit.

    Parameters
    ----------
    path : path-like
    state : dict
        As `Trainer.state_dict` gives it: ``identity`` and ``progress``, fit for JSON; ``model``, arrays by name;
        ``optimizer``, its `state_dict`; ``callbacks``, a list of dicts of ``type``, ``state`` (fit for JSON) and
        ``arrays`` (by name, or None).

    Raises
    ------
    OSError
        If the file cannot be written; an older file is unchanged.
    """
    from .. import __version__

    optimizer = dict(state["optimizer"])
    tensors = {f"model.{name}": array for name, array in state["model"].items()}
    for name, kinds in optimizer.pop("state").items():
        tensors.update({f"optimizer.{name}.{kind}": array for kind, array in kinds.items()})
    callbacks = []
    for place, entry in enumerate(state["callbacks"]):
        callbacks.append({**entry, "arrays": entry["arrays"] is not None})
        tensors.update({f"callbacks.{place}.{name}": array for name, array in (entry["arrays"] or {}).items()})
    metadata = {
        "format": FORMAT,
        "format_version": str(FORMAT_VERSION),
        "fastmlp_version": __version__,
        "identity": json.dumps(state["identity"], sort_keys=True),
        "progress": json.dumps({**state["progress"], "optimizer": optimizer, "callbacks": callbacks}),
    }
    write_tensors(path, tensors, metadata)


def read_training_state(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read the state of a fit, as `write_training_state` got it; parameters without optimizer state are left out.

    Raises
    ------
    ModelFileError
        If the file is damaged, has another format or was written by a later version.
    OSError
        If the file cannot be read.
    """
    metadata, tensors = read_tensors(path, FORMAT, FORMAT_VERSION)
    if metadata.get("format") != FORMAT:
        raise ModelFileError(f"{path} is not a training state: its format is {metadata.get('format')!r}.")
    if metadata.get("format_version") != str(FORMAT_VERSION):
        raise ModelFileError(
            f"{path} has format version {metadata.get('format_version')!r}, this fastmlp reads {FORMAT_VERSION}."
        )
    try:
        identity, progress = json.loads(metadata["identity"]), json.loads(metadata["progress"])
    except (KeyError, ValueError, RecursionError) as error:
        raise ModelFileError(f"{path} is damaged: {error}.") from error
    if not isinstance(identity, dict) or not isinstance(progress, dict):
        raise ModelFileError(f"{path} is damaged: its description is not one.")
    shuffle = identity.get("shuffle")
    if isinstance(shuffle, bool):  # written before there were windows
        identity["shuffle"] = "full" if shuffle else "none"
    state: dict[str, dict[str, Array]] = {}
    try:
        for name, array in _under(tensors, "optimizer.").items():
            parameter, kind = name.rsplit(".", 1)
            state.setdefault(parameter, {})[kind] = array
        callbacks = [
            {**entry, "arrays": _under(tensors, f"callbacks.{place}.") if entry["arrays"] else None}
            for place, entry in enumerate(progress.pop("callbacks"))
        ]
        optimizer = {**progress.pop("optimizer"), "state": state}
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ModelFileError(f"{path} is no training state that fits: {error}.") from error
    return {
        "identity": identity,
        "progress": progress,
        "model": _under(tensors, "model."),
        "optimizer": optimizer,
        "callbacks": callbacks,
    }


def _under(tensors: dict[str, Array], prefix: str) -> dict[str, Array]:
    return {name.removeprefix(prefix): array for name, array in tensors.items() if name.startswith(prefix)}
