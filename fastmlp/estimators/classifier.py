"""Drop-in replacement for scikit-learn's MLPClassifier."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy import sparse
from sklearn.base import ClassifierMixin, _fit_context
from sklearn.metrics import accuracy_score
from sklearn.preprocessing import LabelBinarizer
from sklearn.utils import column_or_1d, compute_sample_weight
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import _check_partial_fit_first_call, type_of_target, unique_labels
from sklearn.utils.validation import validate_data

from .._common.group import Group
from .._common.validation import Array
from ..inference.predictor import Predictor
from ..losses import Loss
from ..losses.bce import BCEWithLogitsLoss
from ..losses.cross_entropy import CrossEntropyLoss
from ..modules import Module
from ..training.evaluation import normalize_outputs
from .base import BaseMLP, kept_dtypes, mean
from .online import on_prepared_steps

__all__ = ["MLPClassifier"]


class MLPClassifier(ClassifierMixin, BaseMLP):  # type: ignore[misc]
    """Multilayer perceptron for classification and multilabel classification.

    It has the parameters and attributes of scikit-learn's MLPClassifier, and additional ones.

    Parameters
    ----------
    hidden_layer_sizes : int or array-like of int
        Widths of the hidden layers; ``()`` for a linear model.
    activation : str
        Any of `fastmlp.modules.activation_names`, among them scikit-learn's "relu", "tanh" and "identity"; its
        "logistic" stands for "sigmoid".
    solver : {"adam", "sgd", "lbfgs"}
    alpha : float
        L2 penalty: alpha / (2 m) times the sum of squares of ``coefs_`` is added to the loss of a batch of m rows.
    batch_size : int or "auto"
        "auto": 200, or all rows if there are fewer. "lbfgs" uses all rows at once.
    learning_rate : {"constant", "invscaling", "adaptive"}
        Only effective when solver="sgd". "constant": learning_rate_init. "invscaling": learning_rate_init /
        (rows seen + 1)^power_t. "adaptive": the rate is divided by 5 after ``n_iter_no_change`` epochs without
        improvement, until it is 1e-6.
    learning_rate_init : float
        Initial learning rate. Only effective when solver="sgd" or "adam".
    power_t : float
        Exponent of "invscaling". Only effective when solver="sgd" and learning_rate="invscaling".
    max_iter : int
        Most epochs, or iterations of "lbfgs".
    shuffle : bool or {"full", "windows"}
        Order of the rows, drawn anew for each epoch, as for `Trainer.fit`: True is "full", or "windows" for rows in a
        mapped file that is larger than the free memory. Only effective when solver="sgd" or "adam".
    random_state : int, RandomState or None
        The initial weights equal those of scikit-learn; the orders of the rows do not.
    tol : float
        The fit ends when the loss, or with early stopping the score, has not improved by ``tol`` for more than
        ``n_iter_no_change`` epochs. "lbfgs" ends when no entry of the gradient is larger.
    n_iter_no_change : float
        Number of epochs without improvement before the fit ends. Only effective when solver="sgd" or "adam".
    verbose : bool
        Whether to print a line for each epoch, or iteration of "lbfgs".
    warm_start : bool
        Whether `fit` starts from the weights of the last fit.
    momentum : float
        Momentum. Only effective when solver="sgd".
    nesterovs_momentum : bool
        Whether to use Nesterov's momentum. Only effective when solver="sgd".
    early_stopping : bool
        Whether to hold out rows (or use ``X_val``), stop by their score, and keep the weights of the best score. With
        ``warm_start`` the initial weights are a candidate too. Only effective when solver="sgd" or "adam".
    validation_fraction : float
        Share of the rows to hold out. Only used with early_stopping and without ``X_val``.
    beta_1, beta_2, epsilon : float
        Parameters of Adam. Only effective when solver="adam".
    max_fun : int
        Most evaluations of the loss. Only effective when solver="lbfgs".
    class_weight : dict, "balanced" or None
        Weight of each class by label; classes that are not named have weight 1. "balanced": inversely proportional to
        the frequency of the class, not for `partial_fit`. For multilabel targets "balanced" or a list of dicts, see
        ``sklearn.utils.compute_sample_weight``.
    dropout : float
        Probability of dropping each output of a hidden layer in training. "sgd" and "adam" only.
    layer_norm : bool
        Whether to normalize each hidden layer before its activation (`LayerNorm`).
    augment : augmentation, list of them, or None
        Random transformations of the training rows, see `Trainer.fit`. "sgd" and "adam" only.
    scoring : str, callable or None
        Score of early stopping: None for accuracy, "loss", or a scorer of scikit-learn. "sgd" and "adam" only.
    callbacks : callback, list of them, or None
        See `fastmlp.Callback`. "sgd" and "adam" only.
    progress_bar : bool
        Whether to show a progress bar. "sgd" and "adam" only.
    threads : int or None
        Number of threads, see `Trainer.fit`. None: all usable ones, but one inside a worker thread of joblib or dask.
    n_nets : int
        Number of nets, which are trained at once, one on each processor (`fastmlp.fit_many`), and whose probabilities
        are averaged. They differ in their random numbers; the first net is that of ``n_nets=1``. Each stops early on
        its own. "lbfgs" trains one after the other. Above 1, ``callbacks`` and ``progress_bar`` are not supported.
    backend : str or None
        "numba", "numpy" or "cuda"; None for the current one.

    Attributes
    ----------
    coefs_, intercepts_ : list of ndarray
        Weights (I, O) and biases (O,) of each layer. Assignments to them take effect.
    loss_ : float
        Loss of the last epoch or iteration.
    best_loss_ : float or None
        Least loss of an epoch; None with early stopping. Not set by "lbfgs".
    loss_curve_, validation_loss_curve_ : list of float
        Losses of each epoch; the second one if ``X_val`` was given or ``scoring`` is "loss". Not set by "lbfgs".
    validation_scores_, best_validation_score_ : list of float, float
        With early stopping. A score that is NaN is no improvement. Not set by "lbfgs".
    n_iter_ : int
        Epochs or iterations of the last fit.
    t_ : int
        Rows seen by all fits.
    n_layers_, n_outputs_, n_features_in_ : int
        Numbers of layers (including the input), outputs and features.
    feature_names_in_ : ndarray of str
        Names of the features, if X has names.
    out_activation_ : str
        Activation of the outputs.
    classes_ : ndarray
        Labels in the order of the columns of `predict_proba`.
    other_nets_ : list of estimators
        With ``n_nets`` above 1: the nets after the first, as estimators of one net. The other attributes are those of
        the first net.

    Examples
    --------
    >>> import numpy as np
    >>> from fastmlp import MLPClassifier
    >>> X = np.array([[0.0, 0.0], [1.0, 1.0]] * 20)
    >>> y = np.array(["no", "yes"] * 20)
    >>> MLPClassifier((8,), random_state=0, learning_rate_init=0.05).fit(X, y).predict([[0.9, 1.1]])
    array(['yes'], dtype='<U3')
    """

    _parameter_constraints: dict[str, Any] = {
        **BaseMLP._parameter_constraints,
        "class_weight": [dict, list, StrOptions({"balanced"}), None],
    }

    def __init__(
        self,
        hidden_layer_sizes: Any = (100,),
        activation: str = "relu",
        *,
        solver: str = "adam",
        alpha: float = 0.0001,
        batch_size: int | str = "auto",
        learning_rate: str = "constant",
        learning_rate_init: float = 0.001,
        power_t: float = 0.5,
        max_iter: int = 200,
        shuffle: bool | str = True,
        random_state: Any = None,
        tol: float = 1e-4,
        verbose: bool = False,
        warm_start: bool = False,
        momentum: float = 0.9,
        nesterovs_momentum: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        n_iter_no_change: float = 10,
        max_fun: int = 15000,
        class_weight: Any = None,
        dropout: float = 0.0,
        layer_norm: bool = False,
        augment: Any = None,
        scoring: Any = None,
        callbacks: Any = None,
        progress_bar: bool = False,
        threads: int | None = None,
        n_nets: int = 1,
        backend: str | None = None,
    ) -> None:
        self._store_params(locals())

    def _output_activation(self) -> str:
        return "softmax" if self._label_binarizer.y_type_ == "multiclass" else "logistic"

    def _loss(self) -> Loss:
        return CrossEntropyLoss() if self.out_activation_ == "softmax" else BCEWithLogitsLoss(reduction="rows")

    def _targets(self, Y: Array) -> Array:
        return Y.argmax(axis=1) if self.out_activation_ == "softmax" else Y.astype(np.float64)

    def _balance(self, y: Any, sample_weight: Array | None, incremental: bool) -> Array | None:
        if self.class_weight is None:
            return sample_weight
        if self._by_frequency():
            balance = compute_sample_weight(self.class_weight, y)
        else:  # weights by label; labels may be absent from these rows
            several = self._label_binarizer.y_type_.startswith("multilabel")
            y = y.toarray() if sparse.issparse(y) else np.asarray(y)
            labels = np.outer([0, 1], np.ones(y.shape[1], int)) if several else self.classes_.reshape(-1, *y.shape[1:])
            balance = compute_sample_weight(self.class_weight, np.concatenate([y, labels]))[: len(y)]
        return np.asarray(balance) if sample_weight is None else sample_weight * balance

    def _by_frequency(self) -> bool:
        """Whether class weights depend on the frequency of the classes."""
        given = self.class_weight if isinstance(self.class_weight, list) else [self.class_weight]
        return any(isinstance(weight, str) for weight in given)

    def _decode_targets(self, Y: Array) -> Array:
        answers: Array = self._label_binarizer.inverse_transform(Y)
        return answers

    def _score_held_out(self, outputs: Array, Y: Array, weight: Array | None) -> float:
        if not np.isfinite(outputs).all():
            return float("nan")
        return float(accuracy_score(self._decode_targets(Y), self._decode_outputs(outputs), sample_weight=weight))

    def _class_indices(self, y: Array) -> Array | None:
        """Return the places in ``classes_`` of labels of two or more classes, int64 (N,), or None for other targets."""
        classes = self.classes_
        if y.ndim != 1 or len(classes) < 2 or self._label_binarizer.y_type_ not in ("binary", "multiclass"):
            return None
        kinds = y.dtype.kind + classes.dtype.kind
        # NumPy compares uint64 with int64 as floats, in which large labels are not distinct.
        if kinds != "UU" and not (set(kinds) <= set("iub") and np.result_type(y, classes).kind != "f"):
            return None
        index: Array = classes.searchsorted(y)
        return index if (classes.take(index, mode="clip") == y).all() else None

    def _encode_labels(self, y: Array) -> Array | None:
        """Return labels of two or more classes as (N, 1) or (N, classes), or None for other targets."""
        index = self._class_indices(y)
        if index is None:
            return None
        encoded: Array = (
            (index == 1)[:, None] if len(self.classes_) == 2 else index[:, None] == np.arange(len(self.classes_))
        )
        return encoded

    def _takes_plain_rows(self) -> bool:
        return self.class_weight is None or not has_several_labels(self)

    def _encode_plain(self, y: Array) -> Array | None:
        if y.ndim == 2:
            several = has_several_labels(self) and y.shape[1] == self.n_outputs_ > 1 and y.dtype.kind in "iub"
            return y.astype(np.float64) if several and ((y == 0) | (y == 1)).all() else None
        index = self._class_indices(y)
        if index is None or self.out_activation_ == "softmax":
            return index
        return index.astype(np.float64)[:, None]

    def _weights_of_classes(self) -> Array | None:
        return (
            None if self.class_weight is None else np.asarray(compute_sample_weight(self.class_weight, self.classes_))
        )

    def _has_classes(self, classes: Any) -> bool:
        if classes is None:
            return True
        given = np.asarray(classes)
        return given.dtype == self.classes_.dtype and np.array_equal(given, self.classes_)

    def _validate_input(self, X: Any, y: Any, incremental: bool, reset: bool) -> tuple[Any, Array]:
        if incremental and not reset and self._are_validated(X, y):
            encoded = self._encode_labels(y)
            if encoded is not None:
                return X, encoded
        X, y = validate_data(
            self, X, y, accept_sparse=["csr", "csc"], multi_output=True, dtype=kept_dtypes(X), reset=reset
        )
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        if not hasattr(self, "classes_") or (not self.warm_start and not incremental):
            self._label_binarizer = LabelBinarizer()
            self._label_binarizer.fit(y)
            self.classes_ = self._label_binarizer.classes_
        else:
            classes = unique_labels(y)
            if self.warm_start and not incremental:
                if set(classes) != set(self.classes_):
                    raise ValueError(
                        "warm_start can only be used where `y` has the same classes as in the previous call to fit. "
                        f"Previously got {self.classes_}, `y` has {classes}"
                    )
            elif len(np.setdiff1d(classes, self.classes_, assume_unique=True)):
                raise ValueError(f"y has the classes {classes}; expected some of `classes_`, {self.classes_}.")
        return X, self._label_binarizer.transform(y).astype(bool)

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(
        self,
        X: Any,
        y: Any = None,
        sample_weight: Any = None,
        X_val: Any = None,
        y_val: Any = None,
        group: Group | None = None,
        pieces: int | str | None = None,
    ) -> MLPClassifier:
        """Fit the model to rows and their classes.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (N, features)
            float32 and dense uint8 are used as they are, other dtypes are converted to float64. The paths that
            `Trainer.fit` takes stand for arrays, which are mapped.
        y : array-like of shape (N,), or (N, labels) of 0 and 1
            None takes the targets of the folder ``X``; those of a packed classification are indices of classes.
        sample_weight : array-like of shape (N,), optional
        X_val, y_val : optional
            Rows to evaluate on after each epoch, "sgd" and "adam" only. Early stopping uses them instead of held-out
            rows and needs at least two.
        group : Group, optional
            Ranks that train the net together, see `fastmlp.distributed.mpi`. All call this method with the same
            arguments; for one net, not several.
        pieces : int or "off", optional
            Number of pieces of a batch, "sgd" and "adam" only, see `Trainer.fit`.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If an argument is out of range or of another shape, or a weight is not finite after the fit.
        """
        return self._fit(X, y, sample_weight, False, X_val, y_val, group, pieces)  # type: ignore[no-any-return]

    @available_if(BaseMLP._solver_is_stochastic)
    @on_prepared_steps
    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None, classes: Any = None) -> MLPClassifier:
        """Train for one epoch over some rows, with the present weights, optimizer state and parameters.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (N, features)
            float32 and dense uint8 are used as they are, other dtypes are converted to float64. The paths that
            `Trainer.fit` takes stand for arrays, which are mapped.
        y : array-like of shape (N,), or (N, labels) of 0 and 1
        sample_weight : array-like of shape (N,), optional
        classes : array-like
            All classes of this and later calls; required by the first call.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If an argument is out of range or of another shape, or a weight is not finite after the fit.
        """
        if self._by_frequency():
            raise ValueError(
                "class_weight='balanced' is not for partial_fit, whose rows do not give the frequency of the classes; "
                "pass a dict of weights by label, from sklearn.utils.compute_class_weight for all rows."
            )
        if _check_partial_fit_first_call(self, classes):
            self._label_binarizer = LabelBinarizer()
            self._label_binarizer.fit(y if type_of_target(y).startswith("multilabel") else classes)
        return self._fit(X, y, sample_weight, True)  # type: ignore[no-any-return]

    def _decode_outputs(self, outputs: Array) -> Array:
        """Convert outputs to classes (N,) or labels (N, O)."""
        if self.out_activation_ == "softmax":
            answers: Array = self.classes_[outputs.argmax(axis=1)]
        elif self._label_binarizer.y_type_.startswith("multilabel"):
            answers = self._label_binarizer.inverse_transform((outputs > 0).astype(np.int64))
        else:  # two classes, or a single one
            positive = (outputs[:, 0] > 0).astype(np.int64)
            answers = self.classes_[positive] if len(self.classes_) == 2 else self.classes_[np.zeros_like(positive)]
        return answers

    def predict(self, X: Any) -> Array:
        """Predict the classes of rows.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (N, features)

        Returns
        -------
        ndarray of shape (N,) or (N, labels)
        """
        if "other_nets_" in self.__dict__:
            return self._decode_probabilities(self.predict_proba(X))
        return self._decode_outputs(self._outputs(X))

    def _decode_probabilities(self, found: Array) -> Array:
        """Convert probabilities, see `predict_proba`, to classes (N,) or labels (N, O)."""
        if has_several_labels(self):
            labels: Array = self._label_binarizer.inverse_transform((found > 0.5).astype(np.int64))
            return labels
        last = len(self.classes_) - 1
        answers: Array = self.classes_[np.minimum(found.argmax(axis=1), last)]  # a single class has two columns
        return answers

    def predict_proba(self, X: Any) -> Array:
        """Predict the probabilities of the classes.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (N, features)

        Returns
        -------
        ndarray of shape (N, classes)
            In the order of ``classes_``; for multilabel targets the probability of each label.
        """
        return self._mean_over_nets(X, self._probabilities)

    def _probabilities(self, outputs: Array, model: Module | None = None) -> Array:
        """Return the probabilities for a net's outputs; ``model`` gives the backend."""
        model = self._network.model if model is None else model
        task = "classification" if self.out_activation_ == "softmax" else "binary"
        found = normalize_outputs(model, task, outputs)
        if self.n_outputs_ > 1:
            return found
        both: Array = np.empty((len(found), 2), found.dtype)
        both[:, 1:] = found
        np.subtract(1, found, out=both[:, :1])
        return both

    def predict_log_proba(self, X: Any) -> Array:
        """Predict the logarithms of the probabilities of the classes.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (N, features)

        Returns
        -------
        ndarray of shape (N, classes)
        """
        found = self.predict_proba(X)
        with np.errstate(divide="ignore"):
            return np.log(found, out=found)

    def _labels(self) -> list[Any] | None:
        single = self.out_activation_ == "softmax" or self.n_outputs_ == 1
        return list(self.classes_) if single and len(self.classes_) > 1 else None

    def _compiled(self, predictors: list[Predictor]) -> Callable[[Any], Array]:
        if len(predictors) > 1:
            twin, model = copy.copy(self), self._network.model  # the present classes, whatever comes later

            def predict(X: Any) -> Array:
                found = mean(twin._probabilities(predictor(X), model) for predictor in predictors)
                return twin._decode_probabilities(found)

            return predict
        predictor, classes = predictors[0], self.classes_
        if self._labels() is None:
            return lambda X: self._decode_outputs(predictor(X))
        if self.out_activation_ == "softmax":
            return lambda X: classes[predictor(X).argmax(axis=1)]
        return lambda X: classes[(predictor(X)[:, 0] > 0).view(np.int8)]

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags


def has_several_labels(classifier: MLPClassifier) -> bool:
    """Whether a row of a fitted classifier has several labels at once."""
    return bool(classifier._label_binarizer.y_type_.startswith("multilabel"))
