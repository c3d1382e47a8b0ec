"""scikit-learn's MLPs, where they can do the same arithmetic."""

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
    """`partial_fit` on many rows at a time: its loop over batches in an order of its own, its checks once a call."""

    @classmethod
    def refuses(cls, case: Case) -> str | None:
        """It has no ELU, scales no bytes, and gives two classes one output."""
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
        # Its squared error is halved, so its learning rate is doubled and its loss too.
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
            epsilon=1e-9,  # it is added to a square root without bias correction, so that 1e-8 would be too much
            shuffle=False,
            random_state=0,
            tol=0.0,
        )
        self._y = data.y if regression else data.y.astype(np.int64)
        # The first call makes the arrays; they are then set, and the optimizer begins anew.
        classes = {} if regression else {"classes": np.arange(max(case.sizes[-1], 2))}
        model.partial_fit(self._X[: case.batch], self._y[: case.batch], **classes)
        del model._optimizer
        for mine, first in zip(self._arrays(), weights, strict=True):
            mine[:] = first

    def _arrays(self) -> list[Any]:
        """Views of the parameters, of the shapes of `first_weights`."""
        pairs = zip(self._model.coefs_, self._model.intercepts_, strict=True)
        return [array for weight, bias in pairs for array in (weight.T, bias)]

    def losses(self, order: Array) -> list[float]:
        """Make the first steps, a call for each."""
        losses = []
        with self._limits(self._threads):
            for rows in order:
                self._model.partial_fit(self._X[rows], self._y[rows])
                losses.append(self._scale * float(self._model.loss_))
        return losses

    def weights(self) -> list[Array]:
        """Copies of the parameters."""
        return [np.array(array) for array in self._arrays()]

    def ready(self, order: Array) -> Callable[[], object]:
        """As many batches of the data set at a call as there are in it, shuffled by scikit-learn."""
        self._model.set_params(shuffle=True)
        an_epoch, batch = len(self._X) // self.case.batch, self.case.batch

        def call() -> None:
            with self._limits(self._threads):
                for done in range(0, len(order), an_epoch):
                    rows = batch * min(an_epoch, len(order) - done)
                    self._model.partial_fit(self._X[:rows], self._y[:rows])

        return call
