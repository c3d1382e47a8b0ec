"""Descriptions of saved models for ``fastmlp info RUN_OR_MODEL``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .._kernels import use_backend
from ..modules import Linear, Module
from ..modules.lowering import iter_layers
from ..modules.saving import find_model, is_ensemble, load_model, model_info
from .data import labels_of
from .ensembles import SavedEnsemble, describe_measures
from .runs import CONFIG, read_config

__all__ = ["describe"]

_SHOWN = 20


def describe(run_or_model: str) -> int:
    """Print a description of a saved model; return the exit code."""
    path = find_model(run_or_model)
    with use_backend("numpy"):
        lines = _ensemble(run_or_model) if is_ensemble(path) else _model(path)
    config = read_config(path.parent / CONFIG) if (path.parent / CONFIG).is_file() else {}
    for name, value in [("file", f"{path}: {path.stat().st_size:,} bytes"), *lines, *_of_run(config)]:
        for place, line in enumerate(value.splitlines()):
            print(f"{'' if place else name:10s} {line}")
    return 0


def _model(path: Path) -> list[tuple[str, str]]:
    info, model = model_info(path), load_model(path)
    lines = [
        ("model", _layers(model)),
        ("task", _task(model.task or "unknown", labels_of(model) if model.task else None)),
    ]
    record = info["preprocessing"]
    if record is not None:
        texts = [f"{spec['name']} ({spec['kind']})" for spec in record["columns"]]
        lines += [("columns", _join(texts)), ("target", str(record["target"]))]
    return [*lines, ("written by", f"fastmlp {info['fastmlp_version']}")]


def _ensemble(run_or_model: str) -> list[tuple[str, str]]:
    saved = SavedEnsemble(run_or_model)
    estimator, nets = saved.estimator, saved.estimator.nets_
    chosen = {name: value for name, value in estimator.get_params(deep=False).items() if value is not None}
    return [
        (
            "estimator",
            f"{type(estimator).__name__}({', '.join(f'{name}={value!r}' for name, value in chosen.items())})",
        ),
        ("nets", f"{len(nets)}, each {_layers(nets[0])}"),
        ("task", _task("regression" if saved.classes is None else "classification", saved.classes)),
        ("columns", estimator.encoder_.summary()),
        ("target", str(saved.record["target"])),
    ]


def _layers(model: Module) -> str:
    layers = [module for _, module in iter_layers(model)]
    names = [type(one).__name__ + (f" {one.out_width}" if isinstance(one, Linear) else "") for one in layers]
    return f"{model.in_width} inputs, {', '.join(names)}; {model.num_parameters:,} parameters ({model.dtype})"


def _task(task: str, classes: list[str] | None) -> str:
    return task if classes is None else f"{task}: {_join(classes)}"


def _join(texts: list[str]) -> str:
    return ", ".join(texts[:_SHOWN]) + (f" and {len(texts) - _SHOWN} more" if len(texts) > _SHOWN else "")


def _of_run(config: dict[str, Any]) -> list[tuple[str, str]]:
    """Describe the data and the results of a run."""
    lines = [("data", config["data"]["dataset"])] if config else []
    for part, found in config.get("results", {}).items():
        if found:
            lines.append((part.replace("_", "-"), describe_measures(found)))
    return lines
