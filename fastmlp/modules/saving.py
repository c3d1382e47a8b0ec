"""Saved models: a safetensors file with the weights, and a description of the model in its metadata.

Metadata entries are text: ``format`` ("fastmlp-model"), ``format_version``, ``fastmlp_version``, ``model`` (config of
the module as JSON), ``dtype``, ``task``, ``classes`` and ``preprocessing`` (JSON), and ``sha256``, see `tensor_file`.
The tensors are the module's `state_dict`, so any program that reads safetensors can use the weights.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from .._common.errors import ModelFileError
from ..io.tensor_file import read_tensors, write_tensors
from . import Module, module_from_config

__all__ = ["ENSEMBLE_FORMAT", "MODEL", "find_model", "is_ensemble", "load_model", "model_info", "save"]

FORMAT, FORMAT_VERSION = "fastmlp-model", 1
ENSEMBLE_FORMAT = "fastmlp-tabular"  # of the estimators for tables, see `tabular.saving`
MODEL = "model.safetensors"  # name in a run folder


def save(model: Module, path: str | os.PathLike[str], *, preprocessing: dict[str, Any] | None = None) -> None:
    """Save a model: architecture, weights, dtype, task, class labels and input scaling.

    The write is atomic: the file is written under another name in the same folder and then renamed. The same model
    gives the same bytes.

    Parameters
    ----------
    model : Module
        A model on any backend; the file does not depend on the backend.
    path : path-like
        The file, by convention ``.safetensors``. The folder must exist.
    preprocessing : dict, optional
        `Dataset.preprocessing` of the training table, for the conversion of new tables to inputs; `model_info`
        returns it.

    Raises
    ------
    ValueError
        If the class labels or ``preprocessing`` cannot be written as JSON.
    OSError
        If the file cannot be written; an existing file is not changed.

    Examples
    --------
    >>> import fastmlp as fm
    >>> fm.save(fm.MLP(4, [8], 2, rng=0), "model.safetensors")
    >>> fm.load_model("model.safetensors")([[1.0, 2.0, 3.0, 4.0]]).shape
    (1, 2)
    """
    from .. import __version__

    if not isinstance(model, Module):
        raise ValueError(f"save expected a module, got {type(model).__name__}.")
    metadata = {
        "format": FORMAT,
        "format_version": str(FORMAT_VERSION),
        "fastmlp_version": __version__,
        "model": _to_json(model.config(), "the model's config"),
        "dtype": str(model.dtype),
        "task": _to_json(model.task, "the task"),
        "classes": _to_json(model.classes, "classes"),
        "preprocessing": _to_json(preprocessing, "preprocessing"),
    }
    write_tensors(path, model.state_dict(), metadata)


def find_model(path: str | os.PathLike[str]) -> Path:
    """Return the path of the model in a run folder; return the path of a file unchanged.

    Raises
    ------
    ModelFileError
        If the path does not exist, or the folder holds no model.
    """
    found = Path(os.path.expanduser(path))  # leaves an unknown ~user unchanged
    if found.is_dir():
        if not (found / MODEL).exists():
            raise ModelFileError(f"{found} has no {MODEL}; expected a run folder or a saved model.")
        return found / MODEL
    if not os.path.lexists(found):
        raise ModelFileError(f"{found} does not exist; expected a run folder or a saved model.")
    return found


def is_ensemble(path: str | os.PathLike[str]) -> bool:
    """Return whether a saved model, or that of a run folder, is an estimator for tables.

    Raises
    ------
    ModelFileError, OSError
        As `load_model`.
    """
    metadata, _ = read_tensors(find_model(path), ENSEMBLE_FORMAT, 0, with_tensors=False)
    return metadata.get("format") == ENSEMBLE_FORMAT


def load_model(path: str | os.PathLike[str]) -> Module:
    """Load a model that `save` wrote, on the current backend.

    Parameters
    ----------
    path : path-like
        A saved model, or a run folder.

    Returns
    -------
    Module
        In evaluation mode (Dropout does nothing until ``model.train()``), with `classes` and `task` set.

    Raises
    ------
    ModelFileError
        If the file is damaged, of a newer format, or not a fastmlp model.
    OSError
        If the file cannot be read.

    Examples
    --------
    >>> import fastmlp as fm
    >>> fm.save(fm.MLP(4, [8], 2, rng=0), "model.safetensors")
    >>> model = fm.load_model("model.safetensors")
    >>> model.training, model.in_width, model.out_width
    (False, 4, 2)
    """
    path = _in_folder(path)
    metadata, tensors = read_tensors(path, FORMAT, FORMAT_VERSION)
    fields = _parse(metadata, path)
    try:
        model = module_from_config(fields["model"])
        model.load_state_dict(tensors)
    except ValueError as error:  # includes ModelFileError
        raise ModelFileError(f"{path} cannot be loaded: {error}") from error
    model.classes, model.task = fields["classes"], fields["task"]
    return model.eval()


def model_info(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the description in a saved model, without reading the weights.

    Returns
    -------
    dict
        ``format_version`` (int), ``fastmlp_version``, ``model`` (config), ``dtype``, ``task``, ``classes``,
        ``preprocessing``.

    Raises
    ------
    ModelFileError, OSError
        As `load_model`.
    """
    path = _in_folder(path)
    return _parse(read_tensors(path, FORMAT, FORMAT_VERSION, with_tensors=False)[0], path)


def _in_folder(path: str | os.PathLike[str]) -> str | os.PathLike[str]:
    return find_model(path) if os.path.isdir(path) else path


def _to_json(value: Any, what: str) -> str:
    try:
        return json.dumps(value, default=_plain, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{what} cannot be saved: {error}.") from error


def _plain(value: Any) -> Any:
    """Convert NumPy scalars and arrays, which class labels often are, to Python types."""
    if isinstance(value, (np.generic, np.ndarray)):
        return value.tolist()
    raise TypeError(f"{value!r} is neither text nor a number")


def _parse(metadata: dict[str, str], path: str | os.PathLike[str]) -> dict[str, Any]:
    if metadata.get("format") == ENSEMBLE_FORMAT:
        estimator = metadata.get("estimator", "TabularClassifier")
        raise ModelFileError(
            f"{path} holds an ensemble for tables; expected a model, or {estimator}.load(path) to read it."
        )
    if metadata.get("format") != FORMAT:
        raise ModelFileError(
            f"{path} was not saved by fastmlp: its format is {metadata.get('format')!r}, expected {FORMAT!r}."
        )
    version = metadata.get("format_version", "")
    if not version.isdecimal() or int(version) > FORMAT_VERSION:
        raise ModelFileError(
            f"{path} has format version {version!r}, this fastmlp reads up to {FORMAT_VERSION}; "
            "a newer fastmlp may read it."
        )
    try:
        fields: dict[str, Any] = {
            key: json.loads(metadata[key]) for key in ("model", "task", "classes", "preprocessing")
        }
    except (KeyError, ValueError, RecursionError) as error:
        raise ModelFileError(f"{path} is damaged: its description is not complete ({error}).") from error
    for key, kind in (("model", dict), ("task", (str, type(None))), ("classes", (list, type(None)))):
        if not isinstance(fields[key], kind):
            raise ModelFileError(f"{path} is damaged: its {key} is {fields[key]!r}.")
    return {
        "format_version": int(version),
        "fastmlp_version": metadata.get("fastmlp_version"),
        "dtype": metadata.get("dtype"),
        **fields,
    }
