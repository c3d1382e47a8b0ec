"""Classifier for tables of mixed columns."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import ClassifierMixin, _fit_context
from sklearn.utils import assert_all_finite, column_or_1d, compute_sample_weight
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight, check_is_fitted

from .._common.validation import Array
from ..losses import Loss
from ..losses.cross_entropy import CrossEntropyLoss
from ..training.evaluation import normalize_outputs
from .base import BaseTabular

__all__ = ["TabularClassifier"]


class TabularClassifier(ClassifierMixin, BaseTabular):  # type: ignore[misc]
    """Classifier for tables of numbers, categories and dates, with missing values: an ensemble of networks.

    The columns are encoded by a `ColumnEncoder`. Each net holds out other rows and keeps the weights of their least
    loss; the probabilities are the means over the nets.

    Parameters
    ----------
    preset : {"fast", "balanced"}
        Constants for the parameters that are None: 2 or 8 nets of two hidden layers of 128.
    n_nets : int, optional
        Number of nets, of which each processor trains one at a time.
    hidden_layer_sizes : array-like of int, optional
        Widths of the hidden layers.
    learning_rate_init : float, optional
        Learning rate of Adam.
    alpha : float, optional
        L2 penalty, as for `MLPClassifier`.
    batch_size : int, optional
    max_iter : int, optional
        Most epochs.
    n_iter_no_change : int, optional
        Epochs without a lower loss of the held-out rows after which a net is complete.
    validation_fraction : float
        Share of the rows that each net holds out, a part of each class, rounded to 1/2, 1/3 and so on; 0 for none.
    class_weight : dict, "balanced" or None
        Weight of each class by label.
    encoder : ColumnEncoder, optional
        Encoder to clone, for other bins or levels.
    time_limit : float, optional
        Seconds of training, after which nets stop at the end of their epoch. Results then depend on the speed of the
        machine.
    random_state : int, RandomState or None
    threads : int, optional
        Number of threads of all nets together. Results do not depend on it.

    Attributes
    ----------
    classes_ : ndarray
        Labels in the order of the columns of `predict_proba`.
    encoder_ : ColumnEncoder
        ``encoder_.summary()`` describes the columns.
    nets_ : list of Sequential
        Their inputs are the encoded columns, or `ColumnEncoder.transform_to_inputs` if the first layer is a
        `BinnedLinear`, which computes the same from positions.
    oof_predict_proba_ : ndarray of shape (N, classes) or None
        Probabilities of the training rows by nets that held them out, NaN where no net did. None without held-out rows.
    n_features_in_, feature_names_in_, n_iter_
        See scikit-learn.

    Examples
    --------
    >>> from fastmlp import TabularClassifier
    >>> X = {"size": [1.0, 9.0] * 30, "color": ["red", "blue"] * 30}
    >>> y = ["small", "large"] * 30
    >>> model = TabularClassifier("fast", random_state=0).fit(X, y)
    >>> model.predict({"size": [2.0, None], "color": ["red", "blue"]})
    array(['small', 'large'], dtype='<U5')
    """

    _parameter_constraints: dict[str, Any] = {
        **BaseTabular._parameter_constraints,
        "class_weight": [dict, StrOptions({"balanced"}), None],
    }

    def __init__(
        self,
        preset: str = "balanced",
        *,
        n_nets: int | None = None,
        hidden_layer_sizes: Any = None,
        learning_rate_init: float | None = None,
        alpha: float | None = None,
        batch_size: int | None = None,
        max_iter: int | None = None,
        n_iter_no_change: int | None = None,
        validation_fraction: float = 0.1,
        class_weight: Any = None,
        encoder: Any = None,
        time_limit: float | None = None,
        random_state: Any = None,
        threads: int | None = None,
    ) -> None:
        super().__init__(
            preset, n_nets=n_nets, hidden_layer_sizes=hidden_layer_sizes, learning_rate_init=learning_rate_init,
            alpha=alpha, batch_size=batch_size, max_iter=max_iter, n_iter_no_change=n_iter_no_change,
            validation_fraction=validation_fraction, encoder=encoder, time_limit=time_limit,
            random_state=random_state, threads=threads,
        )  # fmt: skip
        self.class_weight = class_weight

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any, sample_weight: Any = None, *, callbacks: Any = None) -> TabularClassifier:
        """Fit encoder and nets.

        Parameters
        ----------
        X : data frame (pandas or polars), Arrow table, dict of columns, or array-like, of shape (N, columns)
        y : array-like of shape (N,)
            Labels.
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
            If an argument is out of range or of another shape, or a column has infinite numbers.
        """
        labels = column_or_1d(y, warn=True)
        if labels.dtype.kind == "f":
            assert_all_finite(labels, input_name="y")
        elif labels.dtype.kind == "O" and any(label is None or label != label for label in labels.tolist()):
            raise ValueError("Input y contains NaN or None; expected a label for each row.")
        check_classification_targets(labels)
        self.classes_, targets = np.unique(labels, return_inverse=True)
        weight = sample_weight
        if self.class_weight is not None:
            weight = compute_sample_weight(self.class_weight, labels)
            if sample_weight is not None:
                weight = weight * _check_sample_weight(sample_weight, labels)
        self._fit(X, targets.reshape(-1), len(self.classes_), weight, callbacks)
        return self

    def _make_loss(self) -> Loss:
        return CrossEntropyLoss()

    def _groups(self, targets: Array) -> Array:
        return targets

    def _fitted_state(self) -> dict[str, Any]:
        return {**super()._fitted_state(), "classes": self.classes_.tolist(), "dtype": self.classes_.dtype.str}

    def _set_fitted_state(self, state: dict[str, Any]) -> None:
        super()._set_fitted_state(state)
        self.classes_ = np.array(state["classes"], dtype=state["dtype"])

    def _decode(self, outputs: Array) -> Array:
        return normalize_outputs(self.nets_[0], "classification", outputs.astype(np.float64))

    @property
    def oof_predict_proba_(self) -> Array | None:
        """Probabilities of the training rows by nets that held them out, (N, classes)."""
        check_is_fitted(self)
        return self._held_out_predictions

    def predict_proba(self, X: Any) -> Array:
        """Predict the probabilities of the classes.

        Parameters
        ----------
        X : as for `fit`
            Named columns may be in another order.

        Returns
        -------
        ndarray of float64, of shape (N, classes)
        """
        return self._predict_encoded(self._encode(X))

    def predict(self, X: Any) -> Array:
        """Predict the classes of rows.

        Parameters
        ----------
        X : as for `fit`

        Returns
        -------
        ndarray of shape (N,)
        """
        found = self.predict_proba(X)
        labels: Array = self.classes_[found.argmax(axis=1)]
        return labels
