"""Regressor for tables of mixed columns."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import RegressorMixin, _fit_context
from sklearn.utils.validation import check_array, check_is_fitted

from .._common.validation import Array
from ..losses import Loss
from ..losses.mse import MSELoss
from .base import BaseTabular

__all__ = ["TabularRegressor"]

_GROUPS = 10  # quantiles of the targets, of which each held-out part has the same share


class TabularRegressor(RegressorMixin, BaseTabular):  # type: ignore[misc]
    """Regressor for tables of numbers, categories and dates, with missing values: an ensemble of networks.

    The columns are encoded by a `ColumnEncoder`, and the targets are standardized. Each net holds out other rows and
    keeps the weights of their least squared error; the predictions are the means over the nets.

    Parameters
    ----------
    preset, n_nets, hidden_layer_sizes, learning_rate_init, alpha, batch_size, max_iter, n_iter_no_change
        See `TabularClassifier`.
    validation_fraction, encoder, time_limit, random_state, threads
        See `TabularClassifier`.

    Attributes
    ----------
    encoder_, nets_, n_features_in_, feature_names_in_, n_iter_
        See `TabularClassifier`.
    oof_prediction_ : ndarray of shape (N,) or (N, outputs), or None
        Predictions of the training rows by nets that held them out, NaN where no net did. None without held-out rows.

    Examples
    --------
    >>> from fastmlp import TabularRegressor
    >>> X = {"size": [1.0, 2.0, 3.0] * 20, "color": ["red", "blue", None] * 20}
    >>> y = [10.0, 20.0, 30.0] * 20
    >>> model = TabularRegressor("fast", random_state=0).fit(X, y)
    >>> model.predict({"size": [2.0], "color": ["blue"]}).round()
    array([20.])
    """

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any, sample_weight: Any = None, *, callbacks: Any = None) -> TabularRegressor:
        """Fit encoder and nets.

        Parameters
        ----------
        X : data frame (pandas or polars), Arrow table, dict of columns, or array-like, of shape (N, columns)
        y : array-like of shape (N,) or (N, outputs)
        sample_weight : array-like of shape (N,), optional
        callbacks : callable, optional
            ``callbacks(number, trainer)`` returns a list of callbacks for each net, see `Callback`. Those of different
            nets are called in different threads at the same time.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If an argument is out of range or of another shape, or a number is infinite.
        """
        if y is None:
            raise ValueError("requires y to be passed, but the target y is None")
        targets = check_array(y, ensure_2d=False, dtype=np.float64, input_name="y")
        self._single = targets.ndim == 1 or targets.shape[1] == 1
        targets = targets.reshape(len(targets), -1)
        self._offset, deviation = targets.mean(axis=0), targets.std(axis=0)
        self._scale = np.where(deviation > 0, deviation, 1.0)
        self._fit(X, (targets - self._offset) / self._scale, targets.shape[1], sample_weight, callbacks)
        return self

    def _make_loss(self) -> Loss:
        return MSELoss()

    def _groups(self, targets: Array) -> Array:
        ranks = targets[:, 0].argsort(kind="stable").argsort(kind="stable")
        found: Array = ranks * _GROUPS // len(ranks)
        return found

    def _fitted_state(self) -> dict[str, Any]:
        scaling = {"offset": self._offset.tolist(), "scale": self._scale.tolist(), "single": self._single}
        return {**super()._fitted_state(), **scaling}

    def _set_fitted_state(self, state: dict[str, Any]) -> None:
        super()._set_fitted_state(state)
        self._offset, self._scale, self._single = np.array(state["offset"]), np.array(state["scale"]), state["single"]

    def _decode(self, outputs: Array) -> Array:
        values: Array = outputs.astype(np.float64) * self._scale + self._offset
        return values[:, 0] if self._single else values

    @property
    def oof_prediction_(self) -> Array | None:
        """Predictions of the training rows by nets that held them out."""
        check_is_fitted(self)
        return self._held_out_predictions

    def predict(self, X: Any) -> Array:
        """Predict the values of rows.

        Parameters
        ----------
        X : as for `fit`
            Named columns may be in another order.

        Returns
        -------
        ndarray of float64, of shape (N,) or (N, outputs)
        """
        return self._predict_encoded(self._encode(X))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags
