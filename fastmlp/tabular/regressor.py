"""Regressor for tables of mixed columns."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from sklearn.base import RegressorMixin, _fit_context
from sklearn.utils.validation import check_array, check_is_fitted

from .._common.validation import Array
from ..losses import Loss
from ..losses.mse import MSELoss
from ..modules import Module
from .base import BaseTabular
from .c import write_c
from .compiled import CompiledEnsemble
from .onnx import write_onnx

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
    validation_fraction, encoder, scoring, time_limit, random_state, threads
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
    def fit(
        self, X: Any, y: Any, sample_weight: Any = None, *, eval_set: Any = None, callbacks: Any = None
    ) -> TabularRegressor:
        """Fit encoder and nets.

        Parameters
        ----------
        X : data frame (pandas or polars), Arrow table, dict of columns, or array-like, of shape (N, columns)
        y : array-like of shape (N,) or (N, outputs)
        sample_weight : array-like of shape (N,), optional
        eval_set : (X, y), optional
            See `TabularClassifier.fit`.
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
        values, self._single = _read_values(y)
        self._standardize_by(values)
        evaluation = self._evaluation(eval_set, self._targets)
        self._fit(X, self._targets(values), values.shape[1], sample_weight, callbacks, evaluation)
        return self

    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> TabularRegressor:
        """Train all nets for one epoch over some rows, with the present weights and optimizers.

        The encoder and the scale of the targets are fitted to the rows of the first call, or of `fit`, and stay as they
        are: a category that the encoder has not seen is a rare or an unknown one. No rows are held out. Optimizers are
        not saved by `save` or pickle.

        Parameters
        ----------
        X : as for `fit`
        y : array-like of shape (N,) or (N, outputs)
        sample_weight : array-like of shape (N,), optional

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If an argument is out of range or of another shape, or a number is infinite.
        """
        values, single = _read_values(y)
        if not hasattr(self, "nets_"):
            self._single = single
            self._standardize_by(values)
        self._partial_fit(X, self._targets(values), values.shape[1], sample_weight)
        return self

    def _standardize_by(self, values: Array) -> None:
        """Take mean and deviation of the targets (N, outputs)."""
        self._offset, deviation = values.mean(axis=0), values.std(axis=0)
        self._scale = np.where(deviation > 0, deviation, 1.0)

    def _targets(self, y: Any) -> Array:
        """Return standardized targets (N, outputs)."""
        values, _ = _read_values(y)
        if values.shape[1] != len(self._offset):
            raise ValueError(f"y has {values.shape[1]} outputs; expected {len(self._offset)} as in the other rows.")
        found: Array = (values - self._offset) / self._scale
        return found

    def _labels(self, targets: Array) -> Array:
        values: Array = targets * self._scale + self._offset
        return values[:, 0] if self._single else values

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

    def _decode(self, outputs: Array, net: Module) -> Array:
        return self._labels(outputs.astype(np.float64))

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

    def export_c(self, path: str | os.PathLike[str], name: str = "predict") -> None:
        """Write encoder, nets and their mean as one C99 file, see `TabularClassifier.export_c`; y are the values."""
        check_is_fitted(self)
        write_c(path, self.encoder_, self.nets_, name, scale=self._scale, offset=self._offset)

    def export_onnx(self, path: str | os.PathLike[str]) -> None:
        """Write encoder, nets and their mean as one ONNX graph, see `TabularClassifier.export_onnx`.

        Its output is ``prediction`` (N, outputs), float64.
        """
        check_is_fitted(self)
        write_onnx(path, self.encoder_, self.nets_, scale=self._scale, offset=self._offset)

    def compiled_predict(self) -> CompiledEnsemble:
        """Return a fast version of `predict` with the present weights.

        Returns
        -------
        callable
            ``f(X)`` for rows as `fit` takes them, or a dict of scalars for one row. Later changes of the estimator have
            no effect on it.
        """
        check_is_fitted(self)
        scale, offset, single = self._scale, self._offset, self._single

        def answer(found: Array) -> Array:
            values: Array = found * scale + offset
            return values[:, 0] if single else values

        return self._compiled(answer)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags


def _read_values(y: Any) -> tuple[Array, bool]:
    """Return targets (N, outputs) as float64, and whether predictions have the shape (N,)."""
    if y is None:
        raise ValueError("requires y to be passed, but the target y is None")
    values: Array = check_array(y, ensure_2d=False, dtype=np.float64, input_name="y")
    return values.reshape(len(values), -1), values.ndim == 1 or values.shape[1] == 1
