"""Content of a report about one run."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .._common.validation import Array

__all__ = ["RunReport"]


@dataclass
class RunReport:
    """One run of a report.

    Attributes
    ----------
    name : str
        Title of the run.
    task : {"classification", "binary", "regression"}
    histories : dict of str to dict
        Columns epoch, train_loss, val_loss, val_accuracy and lr of the metrics, with None where a value does not apply:
        those of one network under the key "", those of an ensemble under the names of its nets, on held-out rows.
    scores : dict of str to float
        Metrics of the saved model on the test rows.
    targets : ndarray of shape (N,) or (N, O)
        Class indices, or numbers.
    predictions : ndarray of shape (N, C) or (N, O)
        Probabilities of the classes, or predicted numbers.
    classes : list of str
        Labels of the classes; empty for a regression.
    configuration : list of (str, str)
        Names and values of the options that describe the run.
    origin : list of (str, str)
        Machine, versions, data and seed.
    command : str
        Command that repeats the run.
    weights, activations : dict of str to ndarray
        Values by layer: all weights, and the outputs for some test rows.
    """

    name: str
    task: str
    histories: dict[str, dict[str, list[Any]]]
    scores: dict[str, float]
    targets: Array
    predictions: Array
    classes: list[str] = field(default_factory=list)
    configuration: list[tuple[str, str]] = field(default_factory=list)
    origin: list[tuple[str, str]] = field(default_factory=list)
    command: str = ""
    weights: dict[str, Array] = field(default_factory=dict)
    activations: dict[str, Array] = field(default_factory=dict)

    @property
    def labels(self) -> Array:
        """Predicted class indices (N,)."""
        labels: Array = np.argmax(self.predictions, axis=1)
        return labels
