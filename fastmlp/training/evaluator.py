"""Evaluator: a model and its loss put to use, without training."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .._common.outputs import decode_outputs
from .._common.validation import Array, as_integer, finite_features
from ..losses import Loss
from ..modules import Module
from .batches import TrainingData, check_rows, require_weight
from .evaluation import compute_outputs, compute_probabilities, evaluate_rows

__all__ = ["Evaluator"]


class Evaluator:
    """Evaluates and applies a model.

    Parameters
    ----------
    model : Module
        Any model, on any backend.
    loss : Loss
        Says what the outputs mean, and measures them.

    Raises
    ------
    ValueError
        If an argument is of another kind.
    """

    def __init__(self, model: Module, loss: Loss) -> None:
        for value, kind in ((model, Module), (loss, Loss)):
            if not isinstance(value, kind):
                raise ValueError(f"{type(self).__name__} expected a {kind.__name__}, got {value!r}.")
        self.model, self.loss = model, loss

    def evaluate(self, X: Any, y: Any, sample_weight: Any = None, *, batch_size: int | None = None) -> dict[str, float]:
        """Measure the model on some rows.

        Parameters
        ----------
        X, y, sample_weight
            As for `fit`.
        batch_size : int, optional
            Rows to compute at once; None chooses by the widest layer.

        Returns
        -------
        dict
            ``loss``, and ``accuracy`` (classification; binary, over all elements at threshold 0.5) or ``r2``
            (regression), all weighted by ``sample_weight``. Targets count with all their digits, also where
            the model has fewer.

        Raises
        ------
        ValueError
            As `fit`.
        """
        size = None if batch_size is None else as_integer(batch_size, "batch_size")
        rows = self._check(X, y, sample_weight, "evaluate", measured=True)
        require_weight(rows, self.loss)
        return evaluate_rows(self.model, self.loss, rows, size, infer=self._infer(len(rows)))

    def predict(self, X: Any) -> Array:
        """The model's answers.

        Parameters
        ----------
        X : array-like of shape (N, features)

        Returns
        -------
        ndarray
            Classification: class indices (N,), or labels if the model has ``classes``. Binary: 0 or 1, or
            labels. Regression: the outputs. A single column comes as (N,).
        """
        return decode_outputs(self._outputs(X, "predict: X"), self.loss.task, self.model.classes)

    def predict_proba(self, X: Any) -> Array:
        """Probabilities (N, C) of the classes, or (N, O) of the positive answers for binary tasks.

        Raises
        ------
        ValueError
            If the task is regression, and as `predict`.
        """
        if self.loss.task == "regression":
            raise ValueError(f"{type(self.loss).__name__} is for regression; use predict, not predict_proba.")
        outputs = self._outputs(X, "predict_proba: X")
        return compute_probabilities(self.model, self.loss, outputs)

    def _outputs(self, X: Any, what: str) -> Array:
        features = finite_features(X, self.model.in_width, self.model.dtype, what)
        return compute_outputs(self.model, features, self._infer(len(features)))

    def _infer(self, rows: int) -> Callable[[Array], Array] | None:
        """What takes the place of the model's own way for many rows, where there is something."""
        if self.model.backend_name != "numba":
            return None
        from ..engine.session import native_infer  # brings numba along

        return native_infer(self.model, rows)

    def _check(self, X: Any, y: Any, sample_weight: Any, where: str, *, measured: bool = False) -> TrainingData:
        if self.loss.backend_name != self.model.backend_name:  # the model may have moved
            self.loss.to(self.model.backend_name)
        return check_rows(X, y, sample_weight, self.model, self.loss, where, measured=measured)
