"""Saved ensembles: a safetensors file with the weights of all nets, and in its metadata what else predictions need.

Metadata entries are text: ``format`` ("fastmlp-tabular"), ``format_version``, ``fastmlp_version``, ``estimator`` (name
of the class), and as JSON ``model`` (config of a net), ``nets`` (their number) and the entries of the estimator.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from typing import Any

from .._common.errors import ModelFileError
from ..io.tensor_file import read_tensors, write_tensors
from ..modules import Module, module_from_config
from ..modules.saving import ENSEMBLE_FORMAT, find_model

__all__ = ["ensemble_info", "read_ensemble", "write_ensemble"]

_FORMAT, _VERSION = ENSEMBLE_FORMAT, 1
_TEXTS = ("format", "format_version", "fastmlp_version", "estimator")  # entries that are not JSON


def write_ensemble(
    path: str | os.PathLike[str], estimator: str, nets: Sequence[Module], entries: dict[str, Any]
) -> None:
    """Write nets of one architecture and JSON-able entries, whole or not at all.

    Parameters
    ----------
    path : path-like
    estimator : str
        Name of the class.
    nets : sequence of Module
    entries : dict
        Further entries of the metadata.

    Raises
    ------
    ValueError
        If an entry cannot be written as JSON.
    OSError
        If the file cannot be written; an existing file is not changed.
    """
    from .. import __version__

    described = {**entries, "model": nets[0].config(), "nets": len(nets)}
    try:
        metadata = {name: json.dumps(value, allow_nan=False, default=_plain) for name, value in described.items()}
    except (TypeError, ValueError) as error:
        raise ValueError(f"The estimator cannot be saved: {error}; expected numbers, texts or booleans.") from error
    metadata |= {"format": _FORMAT, "format_version": str(_VERSION), "fastmlp_version": __version__}
    metadata["estimator"] = estimator
    tensors = {
        f"net{number}.{name}": array for number, net in enumerate(nets) for name, array in net.state_dict().items()
    }
    write_tensors(path, tensors, metadata)


def read_ensemble(
    path: str | os.PathLike[str], estimator: str, make: Callable[[dict[str, Any], list[Module]], Any]
) -> Any:
    """Read an ensemble of `write_ensemble`.

    Parameters
    ----------
    path : path-like
        The file, or a run folder.
    estimator : str
        Expected name of the class.
    make : callable
        Called with the entries and the nets; its result is returned.

    Raises
    ------
    ModelFileError
        If the file is damaged, of a newer format, or of something else.
    OSError
        If the file cannot be read.
    """
    if os.path.isdir(path):
        path = find_model(path)
    metadata, tensors = read_tensors(path, _FORMAT, _VERSION)
    entries = _parse(path, metadata)
    if (seen := entries["estimator"]) != estimator:
        raise ModelFileError(f"{path} is a {seen}; expected a {estimator}.")
    try:
        nets = []
        for number in range(entries["nets"]):
            prefix, net = f"net{number}.", module_from_config(entries["model"])
            net.load_state_dict({key[len(prefix) :]: tensors[key] for key in tensors if key.startswith(prefix)})
            nets.append(net.eval())
        return make(entries, nets)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise ModelFileError(f"{path} cannot be loaded: {type(error).__name__}: {error}.") from error


def ensemble_info(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the entries of a file of `write_ensemble`, without reading the weights.

    Returns
    -------
    dict
        ``estimator``, ``fastmlp_version``, ``model`` (config of a net), ``nets`` (their number), and the entries of the
        estimator.

    Raises
    ------
    ModelFileError, OSError
        As `read_ensemble`.
    """
    return _parse(path, read_tensors(path, _FORMAT, _VERSION, with_tensors=False)[0])


def _parse(path: str | os.PathLike[str], metadata: dict[str, str]) -> dict[str, Any]:
    """Return the entries of the metadata."""
    if metadata.get("format") != _FORMAT:
        raise ModelFileError(f"{path} is no saved estimator for tables; expected a file of TabularClassifier.save.")
    if (version := metadata.get("format_version")) != str(_VERSION):
        raise ModelFileError(f"{path} has the format version {version!r}; expected {_VERSION}, or a newer fastmlp.")
    try:
        entries: dict[str, Any] = {key: json.loads(text) for key, text in metadata.items() if key not in _TEXTS}
        return {**entries, **{key: metadata[key] for key in ("estimator", "fastmlp_version")}}
    except (KeyError, ValueError, RecursionError) as error:
        raise ModelFileError(f"{path} is damaged: its description is not complete ({error}).") from error


def _plain(value: Any) -> Any:
    """Return a NumPy number or array as plain values."""
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"a {type(value).__name__} is not JSON")
