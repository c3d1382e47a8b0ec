"""Classifier for tables of mixed columns."""

from __future__ import annotations

import os
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
from ..modules import Module
from ..training.calibration import fit_temperature, scale_by_temperature
from ..training.evaluation import normalize_outputs
from .base import BaseTabular
from .c import write_c
from .compiled import CompiledEnsemble
from .onnx import write_onnx

__all__ = ["TabularClassifier"]


class TabularClassifier(ClassifierMixin, BaseTabular):  # type: ignore[misc]
    """Classifier for tables of numbers, categories and dates, with missing values: an ensemble of networks.

    The columns are encoded by a `ColumnEncoder`. Each net holds out other rows and keeps the weights of their least
    loss; the probabilities are the means over the nets.

    Parameters
    ----------
    preset : {"fast", "balanced", "best"}
        Constants for the parameters that are None: 2, 8 or 24 nets of two hidden layers of 128; "best" has dropout and
        trains longer.
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
    calibrate : bool
        Whether probabilities p become softmax(log p / T), with the temperature T of the least log-loss on rows that
        were held out. It changes no predicted class.
    encoder : ColumnEncoder, optional
        Encoder to clone, for other bins or levels.
    scoring : str or callable, optional
        Scorer of scikit-learn, by name or as ``scorer(estimator, X, y)``, that chooses the epoch whose weights are
        kept, in place of the loss. It is computed in Python after each epoch of each net, which takes longer than small
        epochs.
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
    temperature_ : float
        T of ``calibrate``, 1 without it.
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
        "calibrate": ["boolean"],
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
        calibrate: bool = False,
        encoder: Any = None,
        scoring: Any = None,
        time_limit: float | None = None,
        random_state: Any = None,
        threads: int | None = None,
    ) -> None:
        super().__init__(
            preset, n_nets=n_nets, hidden_layer_sizes=hidden_layer_sizes, learning_rate_init=learning_rate_init,
            alpha=alpha, batch_size=batch_size, max_iter=max_iter, n_iter_no_change=n_iter_no_change,
            validation_fraction=validation_fraction, encoder=encoder, scoring=scoring, time_limit=time_limit,
            random_state=random_state, threads=threads,
        )  # fmt: skip
        self.class_weight, self.calibrate = class_weight, calibrate

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(
        self, X: Any, y: Any, sample_weight: Any = None, *, eval_set: Any = None, callbacks: Any = None
    ) -> TabularClassifier:
        """Fit encoder and nets.

        Parameters
        ----------
        X : data frame (pandas or polars), Arrow table, dict of columns, or array-like, of shape (N, columns)
        y : array-like of shape (N,)
            Labels.
        sample_weight : array-like of shape (N,), optional
        eval_set : (X, y), optional
            Rows whose loss ends the fits, in place of the rows that each net holds out; ``X`` is then for training
            only. A list with one such pair is taken too.
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
        labels = _read_labels(y)
        self.classes_, targets = np.unique(labels, return_inverse=True)
        weight = self._weights(labels, sample_weight)
        evaluation = self._evaluation(eval_set, self._targets)
        self.temperature_ = 1.0
        self._fit(X, targets.reshape(-1), len(self.classes_), weight, callbacks, evaluation)
        return self

    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> TabularClassifier:
        """Train all nets for one epoch over some rows, with the present weights and optimizers.

        The encoder is fitted to the rows of the first call, or of `fit`, and stays as it is: a category that it has not
        seen is a rare or an unknown one. No rows are held out. Optimizers are not saved by `save` or pickle.

        Parameters
        ----------
        X : as for `fit`
        y : array-like of shape (N,)
        classes : array-like
            Labels of this and later calls; required by the first call, unless `fit` was called.
        sample_weight : array-like of shape (N,), optional

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If an argument is out of range or of another shape, or a label is not among the classes.
        """
        if self.class_weight == "balanced":
            raise ValueError("class_weight is 'balanced', which needs all rows; expected a dict of weights by label.")
        if not hasattr(self, "nets_"):
            if classes is None:
                raise ValueError("classes must be passed on the first call to partial_fit.")
            self.classes_, self.temperature_ = np.unique(_read_labels(classes)), 1.0
        elif classes is not None and not np.array_equal(np.unique(classes), self.classes_):
            raise ValueError(
                f"`classes={np.unique(classes)!r}` is not the same as on last call to partial_fit, was: "
                f"{self.classes_!r}"
            )
        weight = self._weights(_read_labels(y), sample_weight)
        self._partial_fit(X, self._targets(y), len(self.classes_), weight)
        return self

    def _targets(self, y: Any) -> Array:
        """Return the places of labels among the classes."""
        labels = _read_labels(y)
        places: Array = np.minimum(np.searchsorted(self.classes_, labels), len(self.classes_) - 1)
        unknown = labels[self.classes_[places] != labels]
        if len(unknown):
            raise ValueError(
                f"y has the label {unknown[:1].tolist()[0]!r}; expected one of {self.classes_[:10].tolist()}."
            )
        return places

    def _weights(self, labels: Array, sample_weight: Any) -> Any:
        """Return the weights of rows by their own and by those of their classes; None without any."""
        if self.class_weight is None:
            return sample_weight
        weight = compute_sample_weight(self.class_weight, labels)
        return weight if sample_weight is None else weight * _check_sample_weight(sample_weight, labels)

    def _calibrate(self, targets: Array, found: Array, weight: Array | None) -> None:
        if self.calibrate:
            self.temperature_ = fit_temperature(targets, found, weight)

    def _labels(self, targets: Array) -> Array:
        labels: Array = self.classes_[targets]
        return labels

    def _make_loss(self) -> Loss:
        return CrossEntropyLoss()

    def _groups(self, targets: Array) -> Array:
        return targets

    def _fitted_state(self) -> dict[str, Any]:
        labels = {"classes": self.classes_.tolist(), "dtype": self.classes_.dtype.str}
        return {**super()._fitted_state(), **labels, "temperature": self.temperature_}

    def _set_fitted_state(self, state: dict[str, Any]) -> None:
        super()._set_fitted_state(state)
        self.classes_ = np.array(state["classes"], dtype=state["dtype"])
        self.temperature_ = float(state.get("temperature", 1.0))  # missing in older files

    def _decode(self, outputs: Array, net: Module) -> Array:
        return normalize_outputs(net, "classification", outputs.astype(np.float64))

    @property
    def oof_predict_proba_(self) -> Array | None:
        """Probabilities of the training rows by nets that held them out, (N, classes)."""
        check_is_fitted(self)
        found = self._held_out_predictions
        return None if found is None else scale_by_temperature(found, self.temperature_)

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
        return scale_by_temperature(self._predict_encoded(self._encode(X)), self.temperature_)

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

    def export_c(self, path: str | os.PathLike[str], name: str = "predict") -> None:
        """Write encoder, nets and their mean as one C99 file that needs math.h and string.h only.

        It has ``void predict(const double *numbers, const char *const *texts, double *y)`` for one row: the numbers of
        the columns of numbers, NAN where one is missing; the texts of the columns of categories, as for `export_onnx`,
        NULL where one is missing; and the probabilities. The comment at its head names the columns. All memory is
        static, so that only one thread may call the function at a time.

        Parameters
        ----------
        path : path-like
            The file, written whole or not at all.
        name : str
            Name of the function. The macros ``NAME_NUMBERS``, ``NAME_TEXTS`` and ``NAME_OUTPUTS`` give the widths.

        Raises
        ------
        ValueError
            If a column holds dates, or ``name`` is not a free name in C.
        OSError
            If the file cannot be written.
        """
        check_is_fitted(self)
        write_c(path, self.encoder_, self.nets_, name, temperature=self.temperature_)

    def export_onnx(self, path: str | os.PathLike[str]) -> None:
        """Write encoder, nets and their mean as one ONNX graph, for ONNX Runtime.

        The graph has an input (N, 1) for each column of the table, by its name: of numbers as float64, NaN where one is
        missing; of categories as strings, without spaces around them and "" where one is missing (``"1"`` for 1,
        ``"True"`` for True). Its outputs are ``label`` (N,) and ``probabilities`` (N, classes), float32.

        Parameters
        ----------
        path : path-like
            The file, written whole or not at all.

        Raises
        ------
        ValueError
            If a column holds dates.
        BackendError
            If onnx is not installed.
        OSError
            If the file cannot be written.
        """
        check_is_fitted(self)
        write_onnx(path, self.encoder_, self.nets_, classes=self.classes_, temperature=self.temperature_)

    def compiled_predict(self) -> CompiledEnsemble:
        """Return a fast version of `predict` with the present weights, see `compiled_predict_proba`."""
        check_is_fitted(self)
        classes = self.classes_
        return self._compiled(lambda found: classes[found.argmax(axis=1)])

    def compiled_predict_proba(self) -> CompiledEnsemble:
        """Return a fast version of `predict_proba` with the present weights.

        Returns
        -------
        callable
            ``f(X)`` for rows as `fit` takes them, or a dict of scalars for one row. Later changes of the estimator have
            no effect on it.

        Examples
        --------
        >>> from fastmlp import TabularClassifier
        >>> X = {"size": [1.0, 9.0] * 30, "color": ["red", "blue"] * 30}
        >>> model = TabularClassifier("fast", random_state=0).fit(X, ["small", "large"] * 30)
        >>> f = model.compiled_predict_proba()
        >>> f({"size": 1.5, "color": "red"}).round(2)
        array([[0., 1.]])
        """
        check_is_fitted(self)
        temperature = self.temperature_
        return self._compiled(lambda found: scale_by_temperature(found, temperature))


def _read_labels(y: Any) -> Array:
    """Return labels (N,); raise ValueError for missing ones and numbers that are no labels."""
    labels: Array = column_or_1d(y, warn=True)
    if labels.dtype.kind == "f":
        assert_all_finite(labels, input_name="y")
    elif labels.dtype.kind == "O" and any(label is None or label != label for label in labels.tolist()):
        raise ValueError("Input y contains NaN or None; expected a label for each row.")
    check_classification_targets(labels)
    return labels
