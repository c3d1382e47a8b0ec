"""Drop-in replacement for scikit-learn's MLPRegressor."""

from __future__ import annotations

from collections.abc import Callable
from numbers import Real
from typing import Any

import numpy as np
from sklearn.base import RegressorMixin, _fit_context
from sklearn.metrics import r2_score
from sklearn.utils import column_or_1d
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import validate_data

from .._common.group import Group
from .._common.validation import Array
from ..inference.predictor import Predictor
from ..losses import Loss
from ..losses.huber import HuberLoss
from ..losses.l1 import L1Loss
from ..losses.log_cosh import LogCoshLoss
from ..losses.mse import MSELoss
from ..losses.poisson import PoissonLoss
from ..losses.quantile import QuantileLoss
from .base import BaseMLP, kept_dtypes, mean
from .online import on_prepared_steps

__all__ = ["MLPRegressor"]


class MLPRegressor(RegressorMixin, BaseMLP):  # type: ignore[misc]
    """Multilayer perceptron for regression with one or several outputs.

    It has the parameters and attributes of scikit-learn's MLPRegressor, and additional ones.

    Parameters
    ----------
    loss : str
        "squared_error" (half of it), "poisson" (half of the deviance; the net predicts the logarithm of the mean),
        "absolute_error", "huber", "log_cosh" or "quantile".
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
    delta : float
        Error above which "huber" is linear.
    quantile : float
        Quantile of "quantile", above 0 and below 1.
    dropout : float
        Probability of dropping each output of a hidden layer in training. "sgd" and "adam" only.
    layer_norm : bool
        Whether to normalize each hidden layer before its activation (`LayerNorm`).
    augment : augmentation, list of them, or None
        Random transformations of the training rows, see `Trainer.fit`. "sgd" and "adam" only.
    scoring : str, callable or None
        Score of early stopping: None for R2, "loss", or a scorer of scikit-learn. "sgd" and "adam" only.
    callbacks : callback, list of them, or None
        See `fastmlp.Callback`. "sgd" and "adam" only.
    progress_bar : bool
        Whether to show a progress bar. "sgd" and "adam" only.
    threads : int or None
        Number of threads, see `Trainer.fit`. None: all usable ones, but one inside a worker thread of joblib or dask.
    n_nets : int
        Number of nets, which are trained at once, one on each processor (`fastmlp.fit_many`), and whose predictions are
        averaged. They differ in their random numbers; the first net is that of ``n_nets=1``. Each stops early on its
        own. "lbfgs" trains one after the other. Above 1, ``callbacks`` and ``progress_bar`` are not supported.
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
    other_nets_ : list of estimators
        With ``n_nets`` above 1: the nets after the first, as estimators of one net. The other attributes are those of
        the first net.

    Examples
    --------
    >>> import numpy as np
    >>> from fastmlp import MLPRegressor
    >>> X = np.linspace(-1, 1, 50)[:, None]
    >>> net = MLPRegressor(hidden_layer_sizes=(20,), activation="tanh", solver="lbfgs", random_state=0)
    >>> round(net.fit(X, np.sin(3 * X[:, 0])).score(X, np.sin(3 * X[:, 0])), 2)
    1.0
    """

    _parameter_constraints: dict[str, Any] = {
        **BaseMLP._parameter_constraints,
        "loss": [
            StrOptions({"squared_error", "poisson", "absolute_error", "huber", "log_cosh", "quantile"}),
        ],
        "delta": [Interval(Real, 0, None, closed="neither")],
        "quantile": [Interval(Real, 0, 1, closed="neither")],
    }

    def __init__(
        self,
        loss: str = "squared_error",
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
        delta: float = 1.0,
        quantile: float = 0.5,
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
        return "exp" if self.loss == "poisson" else "identity"

    def _loss(self) -> Loss:
        made: dict[str, Callable[[], Loss]] = {
            "squared_error": lambda: MSELoss(reduction="rows", half=True),
            "poisson": lambda: PoissonLoss(reduction="rows"),
            "absolute_error": L1Loss,
            "huber": lambda: HuberLoss(float(self.delta)),
            "log_cosh": LogCoshLoss,
            "quantile": lambda: QuantileLoss(float(self.quantile)),
        }
        return made[self.loss]()

    @property
    def _loss_scale(self) -> float:  # type: ignore[override]
        # scikit-learn minimizes the sum over outputs and reports the mean.
        return 1 / self.n_outputs_ if self.loss == "squared_error" else 1.0

    def _set_loss_constant(self, Y: Array, weight: Array | None) -> None:
        self._loss_constant = 0.0
        if self.loss == "poisson":  # the deviance has the additional term sum_j y log y - y
            logarithm = np.log(Y, out=np.zeros(Y.shape), where=Y > 0)
            self._loss_constant = float(np.average((Y * logarithm - Y).sum(axis=1), weights=weight))

    def _targets(self, Y: Array) -> Array:
        return Y

    def _score_held_out(self, outputs: Array, Y: Array, weight: Array | None) -> float:
        if not np.isfinite(outputs).all():
            return float("nan")
        return float(r2_score(Y, self._decode_outputs(outputs).reshape(Y.shape), sample_weight=weight))

    def _encode_plain(self, y: Array) -> Array | None:
        outputs = self.n_outputs_
        if y.shape[1:] != (() if outputs == 1 else (outputs,)):
            return None
        if y.dtype.kind in "iu":
            y = y.astype(self.coefs_[0].dtype)
        return y.reshape(len(y), outputs) if y.dtype in (np.float32, np.float64) else None

    def _validate_input(self, X: Any, y: Any, incremental: bool, reset: bool) -> tuple[Any, Array]:
        if not reset and self._are_validated(X, y) and y.dtype.kind == "f" and y.ndim == 1 and np.isfinite(y).all():
            return X, y
        X, y = validate_data(
            self, X, y, accept_sparse=["csr", "csc"], multi_output=True, y_numeric=True,
            dtype=kept_dtypes(X), reset=reset,
        )  # fmt: skip
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        return X, y

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
    ) -> MLPRegressor:
        """Fit the model to rows and their targets.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (N, features)
            float32 and dense uint8 are used as they are, other dtypes are converted to float64. The paths that
            `Trainer.fit` takes stand for arrays, which are mapped.
        y : array-like of shape (N,) or (N, outputs)
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
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> MLPRegressor:
        """Train for one epoch over some rows, with the present weights, optimizer state and parameters.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (N, features)
            float32 and dense uint8 are used as they are, other dtypes are converted to float64. The paths that
            `Trainer.fit` takes stand for arrays, which are mapped.
        y : array-like of shape (N,) or (N, outputs)
        sample_weight : array-like of shape (N,), optional

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If an argument is out of range or of another shape, or a weight is not finite after the fit.
        """
        return self._fit(X, y, sample_weight, True)  # type: ignore[no-any-return]

    def _decode_outputs(self, outputs: Array) -> Array:
        answers: Array = np.exp(outputs) if self.out_activation_ == "exp" else outputs
        return answers[:, 0] if answers.shape[1] == 1 else answers

    def predict(self, X: Any) -> Array:
        """Predict the targets of rows.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (N, features)

        Returns
        -------
        ndarray of shape (N,) or (N, outputs)
        """
        return self._mean_over_nets(X, self._decode_outputs)

    def _compiled(self, predictors: list[Predictor]) -> Callable[[Any], Array]:
        if len(predictors) == 1:
            predictor = predictors[0]
            return lambda X: self._decode_outputs(predictor(X))
        return lambda X: mean(self._decode_outputs(predictor(X)) for predictor in predictors)
