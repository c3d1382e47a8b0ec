"""Evaluator: predictions and metrics of a model, without training."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .._common.outputs import decode_outputs
from .._common.validation import Array, as_integer, finite_features
from ..io.mapped_reads import GuardedReads
from ..io.row_paths import open_rows, open_rows_and_targets
from ..losses import Loss
from ..modules import Module
from .batches import TrainingData, check_rows, require_weight
from .evaluation import compute_outputs, compute_probabilities, evaluate_rows

__all__ = ["Evaluator"]


class Evaluator:
    """Predict with a model and measure it.

    Parameters
    ----------
    model : Module
        Any model, on any backend.
    loss : Loss
        Determines the task (classification, binary, regression), and is one of the metrics.

    Raises
    ------
    ValueError
        If an argument is of another type.

    Examples
    --------
    >>> import fastmlp as fm, numpy as np
    >>> from fastmlp.training.evaluator import Evaluator
    >>> evaluator = Evaluator(fm.MLP(3, [4], 2, rng=0), fm.CrossEntropyLoss())
    >>> evaluator.predict_proba(np.zeros((5, 3))).shape
    (5, 2)
    """

    def __init__(self, model: Module, loss: Loss) -> None:
        for value, kind in ((model, Module), (loss, Loss)):
            if not isinstance(value, kind):
                raise ValueError(f"{type(self).__name__} expected a {kind.__name__}, got {value!r}.")
        self.model, self.loss = model, loss

    def evaluate(
        self, X: Any, y: Any = None, sample_weight: Any = None, *, batch_size: int | None = None
    ) -> dict[str, float]:
        """Compute the loss and the accuracy or R2 of the model on some rows.

        Parameters
        ----------
        X, y, sample_weight
            See `Trainer.fit`; of a packed folder the test part is used. Targets are not rounded to the model's dtype.
        batch_size : int, optional
            Rows to compute at once. None chooses by the widest layer.

        Returns
        -------
        dict
            ``loss``, and ``accuracy`` (classification) or ``r2`` (regression), weighted by ``sample_weight``. For
            binary tasks the accuracy is over all elements, at threshold 0.5.

        Raises
        ------
        ValueError
            If an argument has another shape or a value that is not finite.
        """
        size = None if batch_size is None else as_integer(batch_size, "batch_size")
        X, y = open_rows_and_targets(X, y, "evaluate", "test")
        sample_weight = open_rows(sample_weight, "evaluate: sample_weight")
        with GuardedReads((X, y, sample_weight)):
            rows = self._check(X, y, sample_weight, "evaluate", measured=True)
            require_weight(rows, self.loss)
            return evaluate_rows(self.model, self.loss, rows, size, infer=self._infer(len(rows)))

    def predict(self, X: Any) -> Array:
        """Predict labels or values.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (N, features), or path-like
            See `Trainer.fit`; of a packed folder the test part is used.

        Returns
        -------
        ndarray of shape (N,) or (N, O)
            Classification: class indices, or labels if the model has ``classes``. Binary: 0 or 1, or labels.
            Regression: the outputs. A single column is returned as (N,).

        Raises
        ------
        ValueError
            If ``X`` has another shape or a value that is not finite.
        """
        return decode_outputs(self._outputs(X, "predict: X"), self.loss.task, self.model.classes)

    def predict_proba(self, X: Any) -> Array:
        """Predict probabilities.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (N, features), or path-like
            See `Trainer.fit`; of a packed folder the test part is used.

        Returns
        -------
        ndarray of shape (N, C) or (N, O)
            Probabilities of the classes, or for binary tasks of the positive class of each output.

        Raises
        ------
        ValueError
            If the task is regression, or as `predict`.
        """
        if self.loss.task == "regression":
            raise ValueError(f"{type(self.loss).__name__} is for regression; use predict, not predict_proba.")
        outputs = self._outputs(X, "predict_proba: X")
        return compute_probabilities(self.model, self.loss, outputs)

    def _outputs(self, X: Any, what: str) -> Array:
        X = open_rows(X, what)
        with GuardedReads((X,)):
            features = finite_features(X, self.model.in_width, self.model.dtype, what)
            return compute_outputs(self.model, features, self._infer(len(features)))

    def _infer(self, rows: int) -> Callable[[Array], Array] | None:
        """Return the engine's function that computes ``model.infer``, or None if the engine does not support it."""
        if self.model.backend_name != "numba":
            return None
        from ..engine.session import native_infer  # may import Numba

        return native_infer(self.model, rows)

    def _check(self, X: Any, y: Any, sample_weight: Any, where: str, *, measured: bool = False) -> TrainingData:
        if self.loss.backend_name != self.model.backend_name:  # the model was moved to another backend
            self.loss.to(self.model.backend_name)
        return check_rows(X, y, sample_weight, self.model, self.loss, where, measured=measured)
