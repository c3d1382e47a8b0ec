"""Contender scikit-learn: its MLP estimators, for the cases that they support."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np

from .._common.validation import Array
from .cases import Case, Data
from .contender import Contender

__all__ = ["ScikitLearn"]


class ScikitLearn(Contender):
    """`partial_fit` on many rows per call: scikit-learn shuffles and loops over batches, and checks once per call."""

    @classmethod
    def refuses(cls, case: Case) -> str | None:
        """Return the reason why scikit-learn does not support a case: activation, uint8 rows, or two outputs."""
        if case.activation not in ("relu", "tanh", "identity"):
            return f"it has no {case.activation}"
        if case.uint8:
            return "it takes no mean from bytes"
        if case.loss == "cross entropy" and case.sizes[-1] == 2:
            return "it gives two classes one output"
        return None

    def __init__(self, case: Case, data: Data, weights: list[Array], threads: int) -> None:
        super().__init__(case, data, weights, threads)
        self._limits = importlib.import_module("threadpoolctl").threadpool_limits
        self._threads, self._X = threads, data.X
        neural, regression = importlib.import_module("sklearn.neural_network"), case.loss == "squared error"
        # scikit-learn halves the squared error: the learning rate and the reported loss are doubled here.
        self._scale = 2.0 if regression else 1.0
        model = self._model = (neural.MLPRegressor if regression else neural.MLPClassifier)(
            hidden_layer_sizes=case.sizes[1:-1],
            activation=case.activation,
            solver=case.optimizer.lower(),
            alpha=0.0,
            batch_size=case.batch,
            learning_rate_init=case.lr * self._scale,
            momentum=case.momentum,
            nesterovs_momentum=False,
            epsilon=1e-9,  # scikit-learn adds it to the root before bias correction, where 1e-8 has a larger effect
            shuffle=False,
            random_state=0,
            tol=0.0,
        )
        self._y = data.y if regression else data.y.astype(np.int64)
        # The first call allocates the arrays, which are then overwritten; deleting the optimizer resets its state.
        classes = {} if regression else {"classes": np.arange(max(case.sizes[-1], 2))}
        model.partial_fit(self._X[: case.batch], self._y[: case.batch], **classes)
        del model._optimizer
        for mine, first in zip(self._arrays(), weights, strict=True):
            mine[:] = first

    def _arrays(self) -> list[Any]:
        """Return views of the parameters, in the shapes of `first_weights`."""
        pairs = zip(self._model.coefs_, self._model.intercepts_, strict=True)
        return [array for weight, bias in pairs for array in (weight.T, bias)]

    def losses(self, order: Array) -> list[float]:
        """Run the first steps, one call each, and return their losses."""
        losses = []
        with self._limits(self._threads):
            for rows in order:
                self._model.partial_fit(self._X[rows], self._y[rows])
                losses.append(self._scale * float(self._model.loss_))
        return losses

    def weights(self) -> list[Array]:
        """Return copies of the parameters."""
        return [np.array(array) for array in self._arrays()]

    def ready(self, order: Array) -> Callable[[], object]:
        """Return a function that runs the steps, one call of ``partial_fit`` per epoch."""
        self._model.set_params(shuffle=True)
        per_epoch, batch = len(self._X) // self.case.batch, self.case.batch

        def call() -> None:
            with self._limits(self._threads):
                for done in range(0, len(order), per_epoch):
                    rows = batch * min(per_epoch, len(order) - done)
                    self._model.partial_fit(self._X[:rows], self._y[:rows])

        return call
