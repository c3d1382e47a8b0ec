"""scikit-learn's scorers on the outputs of one net, to choose the epoch whose weights are kept."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.metrics import get_scorer

from .._common.validation import Array
from ..callbacks.early_stopping import EarlyStopping
from ..callbacks.history import Record
from ..modules import Module
from ..training.trainer import Trainer

__all__ = ["ScoreStopping", "as_score"]


class ScoreStopping(EarlyStopping):
    """Early stopping on a score, which is computed at each evaluation.

    Parameters
    ----------
    patience : int
        As for `EarlyStopping`.
    score : callable
        ``score(model)`` returns a number, of which more is better.
    """

    def __init__(self, patience: int, score: Callable[[Module], float]) -> None:
        super().__init__(patience)
        self._score = score

    def on_evaluation(self, trainer: Trainer, record: Record) -> None:
        """Compute the score, and stop the run if the patience is exhausted."""
        super().on_evaluation(trainer, {**record, "val_loss": -self._score(trainer.model)})


def as_score(
    scoring: Any, decode: Callable[[Array, Module], Array], X: Array, y: Array, classes: Array | None
) -> Callable[[Module], float]:
    """Return the score of a net on some rows.

    Parameters
    ----------
    scoring : str or callable
        Name of a scorer of scikit-learn, or ``scorer(estimator, X, y)``.
    decode : callable
        Converts outputs of a net to probabilities or values.
    X : ndarray
        Inputs of the net.
    y : ndarray
        Labels or values.
    classes : ndarray or None
        Labels in the order of the probabilities; None for a regression.
    """
    scorer = get_scorer(scoring)

    def score(model: Module) -> float:
        found = decode(model.backend.to_numpy(model.infer(X)), model)
        predicted = _PredictedNumbers(found) if classes is None else _PredictedClasses(found, classes)
        return float(scorer(predicted, X, y))

    return score


class _PredictedClasses(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Classifier whose answers for some rows are known."""

    def __init__(self, probabilities: Any = None, classes: Any = None) -> None:
        self.probabilities, self.classes = probabilities, classes
        self.classes_ = classes

    def predict_proba(self, X: Any) -> Array:
        """Return the probabilities."""
        found: Array = self.probabilities
        return found

    def predict(self, X: Any) -> Array:
        """Return the most probable classes."""
        labels: Array = self.classes[np.argmax(self.probabilities, axis=1)]
        return labels


class _PredictedNumbers(RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """Regressor whose answers for some rows are known."""

    def __init__(self, values: Any = None) -> None:
        self.values = values

    def predict(self, X: Any) -> Array:
        """Return the values."""
        found: Array = self.values
        return found
