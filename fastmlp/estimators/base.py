"""BaseMLP: what MLPClassifier and MLPRegressor share: a fit by `Trainer`, with scikit-learn's attributes."""

from __future__ import annotations

import copy
import threading
import warnings
from collections.abc import Callable
from numbers import Integral, Real
from typing import Any

import numpy as np
from scipy import sparse
from sklearn.base import BaseEstimator, is_classifier
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, InvalidParameterError, Options, StrOptions
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from .._kernels import BACKENDS
from ..augmentation import listed
from ..batches import check_rows
from ..callbacks import CallbackList, as_callbacks
from ..errors import DivergenceError
from ..evaluator import Evaluator
from ..losses import Loss
from ..predictor import Predictor
from ..progress import ProgressBar
from ..trainer import Trainer
from ..validation import Array
from .lbfgs import Objective, minimize
from .network import ACTIVATIONS, Network, initial_weights
from .solver import Progress, Solver

__all__ = ["BaseMLP"]

_NOT_FINITE = (
    "Solver produced non-finite parameter weights. The input data may contain large values and need to be preprocessed."
)
_FLOATS = (np.dtype(np.float64), np.dtype(np.float32))
_STOCHASTIC = ("sgd", "adam")


class BaseMLP(BaseEstimator):  # type: ignore[misc]
    """Base of the estimators; not for use by itself."""

    _parameter_constraints: dict[str, Any] = {
        "hidden_layer_sizes": ["array-like", Interval(Integral, 1, None, closed="left")],
        "activation": [StrOptions(set(ACTIVATIONS))],
        "solver": [StrOptions({"lbfgs", "sgd", "adam"})],
        "alpha": [Interval(Real, 0, None, closed="left")],
        "batch_size": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "learning_rate": [StrOptions({"constant", "invscaling", "adaptive"})],
        "learning_rate_init": [Interval(Real, 0, None, closed="neither")],
        "power_t": [Interval(Real, 0, None, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "shuffle": ["boolean"],
        "random_state": ["random_state"],
        "tol": [Interval(Real, 0, None, closed="left")],
        "verbose": ["verbose"],
        "warm_start": ["boolean"],
        "momentum": [Interval(Real, 0, 1, closed="both")],
        "nesterovs_momentum": ["boolean"],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="left")],
        "beta_1": [Interval(Real, 0, 1, closed="left")],
        "beta_2": [Interval(Real, 0, 1, closed="left")],
        "epsilon": [Interval(Real, 0, None, closed="neither")],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left"), Options(Real, {np.inf})],
        "max_fun": [Interval(Integral, 1, None, closed="left")],
        "dropout": [Interval(Real, 0, 1, closed="both")],
        "layer_norm": ["boolean"],
        "augment": "no_validation",
        "scoring": [str, callable, None],
        "callbacks": "no_validation",
        "progress_bar": ["boolean"],
        "threads": [Interval(Integral, 1, None, closed="left"), None],
        "backend": [StrOptions(set(BACKENDS)), None],
    }

    def _keep(self, parameters: dict[str, Any]) -> None:
        """Set the constructor's parameters, given as its ``locals()``, as they are."""
        for name, value in parameters.items():
            if name not in ("self", "__class__"):
                setattr(self, name, value)

    # ------------------------------------------------------------------------- what the kinds differ in

    def _loss(self) -> Loss:
        """The loss that is trained on; ``_loss_scale`` times it plus ``_loss_constant`` is ``loss_``."""
        raise NotImplementedError

    def _targets(self, Y: Array) -> Array:
        """Targets as the loss takes them, from ``Y (N, O)``."""
        raise NotImplementedError

    def _validate_input(self, X: Any, y: Any, incremental: bool, reset: bool) -> tuple[Any, Array]:
        """(X, Y): checked, Y (N,) or (N, O) of numbers."""
        raise NotImplementedError

    def _output_activation(self) -> str:
        raise NotImplementedError

    def _balance(self, y: Any, sample_weight: Array | None, rows: int) -> Array | None:
        """Sample weights with class weights in them."""
        return sample_weight

    def _score_held_out(self, outputs: Array, Y: Array, weight: Array | None) -> float:
        """The default score of outputs."""
        raise NotImplementedError

    # ----------------------------------------------------------------------------------------- fitting

    def _fit(self, X: Any, y: Any, sample_weight: Any, incremental: bool, X_val: Any = None, y_val: Any = None) -> Any:
        sizes = self.hidden_layer_sizes
        sizes = [int(size) for size in (sizes if hasattr(sizes, "__iter__") else [sizes])]
        if any(size <= 0 for size in sizes):
            raise ValueError(f"hidden_layer_sizes must be > 0, got {sizes}.")
        if (X_val is None) != (y_val is None):
            raise ValueError("fit got one of X_val and y_val; expected both or none.")
        if self.early_stopping and incremental:
            raise ValueError("partial_fit does not support early_stopping=True")
        for name, kind in (("augment", listed), ("callbacks", CallbackList)):
            given = getattr(self, name)
            try:
                if hasattr(given, "__next__"):
                    raise ValueError(f"{name} is {given!r}, of use once only; expected a list.")
                kind(given)
            except ValueError as error:
                raise InvalidParameterError(f"The {name!r} parameter of {type(self).__name__}: {error}") from None
        for name, used in (("augment", listed(self.augment)), ("dropout", self.dropout)):
            if used and self.solver not in _STOCHASTIC:
                raise ValueError(f"{name} is for the solvers sgd and adam, not for {self.solver}.")
        first = not hasattr(self, "coefs_") or (not self.warm_start and not incremental)
        X, Y = self._validate_input(X, y, incremental, reset=first)
        if sample_weight is not None:
            sample_weight = _check_sample_weight(sample_weight, X)
        sample_weight = self._balance(y, sample_weight, len(Y))
        held_out = None if X_val is None else self._validate_held_out(X_val, y_val)
        Y = Y.reshape(len(Y), -1)
        self.n_outputs_ = Y.shape[1]
        random_state = check_random_state(self.random_state)
        if first:
            self._start(X, sizes, random_state)
        elif [len(c) for c in self.coefs_[1:]] != sizes or np.shape(self.coefs_[-1])[1] != self.n_outputs_:
            raise ValueError(
                f"The fitted net has hidden layers {[len(c) for c in self.coefs_[1:]]} and "
                f"{np.shape(self.coefs_[-1])[1]} outputs; expected {sizes} and {self.n_outputs_} to go on with it."
            )
        if self.solver == "lbfgs":
            self._fit_lbfgs(X, Y, sample_weight)
        else:
            self._fit_stochastic(X, Y, sample_weight, random_state, incremental, held_out)
        if not all(np.isfinite(array).all() for array in (*self.coefs_, *self.intercepts_)):
            raise ValueError(_NOT_FINITE)
        return self

    def _validate_held_out(self, X_val: Any, y_val: Any) -> tuple[Any, Array, None]:
        X, Y = self._validate_input(X_val, y_val, True, reset=False)
        return X, Y.reshape(len(Y), -1), None

    def _start(self, X: Any, sizes: list[int], random_state: np.random.RandomState) -> None:
        self.n_iter_ = self.t_ = 0
        self.out_activation_ = self._output_activation()
        widths = [X.shape[1], *sizes, self.n_outputs_]
        self.n_layers_ = len(widths)
        self.coefs_, self.intercepts_ = initial_weights(widths, self.activation, random_state, X.dtype)
        self.__dict__.pop("_rest", None)
        self._forget()
        if self.solver in _STOCHASTIC:
            self._no_improvement_count = 0
            self.loss_curve_: list[float] = []
            self.validation_loss_curve_: list[float] = []
            self.validation_scores_: list[float] | None = [] if self.early_stopping else None
            self.best_validation_score_: float | None = -np.inf if self.early_stopping else None
            self.best_loss_: float | None = None if self.early_stopping else np.inf

    def _forget(self) -> None:
        """Drop what is made from the weights."""
        for name in ("_network", "_trainer"):
            self.__dict__.pop(name, None)

    def _fit_stochastic(
        self,
        X: Any,
        Y: Array,
        weight: Array | None,
        random_state: np.random.RandomState,
        incremental: bool,
        held_out: tuple[Any, Array, Array | None] | None,
    ) -> None:
        fresh = not incremental or not hasattr(self, "_optimizer")
        if fresh:
            self._optimizer = Solver(self)
        given = held_out is not None
        if self.early_stopping and held_out is None:
            X, Y, weight, held_out = self._split(X, Y, weight, random_state)
        rows = len(Y)
        batch = min(200, rows) if self.batch_size == "auto" else int(self.batch_size)
        if batch > rows:
            warnings.warn(
                f"batch_size is {batch}, the training set has {rows} rows: they make one batch.", stacklevel=4
            )
            batch = rows
        loss, network = self._loss(), self._linked()
        self._set_loss_constant(Y, weight)
        trainer: Trainer | None = None if fresh else self.__dict__.get("_trainer")
        if trainer is None or trainer.model is not network.model:
            trainer = self._trainer = Trainer(network.model, loss, self._optimizer.optimizer)
        trainer.l2 = float(self.alpha)  # it may have been set since the last partial_fit
        seed = int(random_state.randint(np.iinfo(np.int32).max)) if trainer.seed is None else None
        targets = self._targets(Y)
        used = rows if weight is None else int(np.count_nonzero(weight))
        score = self._scorer(held_out) if self.early_stopping and held_out is not None else None
        validation = None
        if held_out is not None and (given or self.scoring == "loss"):
            validation = (as_rows(held_out[0]), self._targets(held_out[1]), held_out[2])
        progress = Progress(self, used, min(batch, used), score)
        self.n_iter_, self._converged = 0, False
        listeners = [progress, *as_callbacks(self.callbacks), *([ProgressBar()] if self.progress_bar else ())]
        try:
            trainer.fit(
                as_rows(X), targets, validation=validation, batch_size=batch,
                epochs=1 if incremental else int(self.max_iter), sample_weight=weight, callbacks=listeners, rng=seed,
                threads=self._thread_count(), shuffle=bool(self.shuffle), augment=self.augment,
            )  # fmt: skip
        except KeyboardInterrupt:
            warnings.warn("Training interrupted by user.", stacklevel=4)
        except DivergenceError as error:
            if score is None:
                raise ValueError(f"{_NOT_FINITE} {error}") from error
            assert self.validation_scores_ is not None
            self.validation_scores_.append(float("nan"))
            warnings.warn(f"{error} The best weights are kept.", ConvergenceWarning, stacklevel=4)
        else:
            if not incremental and self.n_iter_ == self.max_iter and not self._converged:
                warnings.warn(
                    f"Maximum iterations ({self.max_iter}) reached and the optimization hasn't converged yet.",
                    ConvergenceWarning,
                    stacklevel=4,
                )
        if progress.best is not None:
            network.model.load_state_dict(progress.best)
        network.refresh()
        self._show(network)
        self._rest = network.rest()

    def _split(self, X: Any, Y: Array, weight: Array | None, random_state: Any) -> tuple[Any, ...]:
        """Training and held-out parts, as scikit-learn draws them."""
        stratify = Y.astype(bool) if is_classifier(self) and self.n_outputs_ == 1 else None
        arrays = (X, Y) if weight is None else (X, Y, weight)
        parts = train_test_split(
            *arrays, random_state=random_state, test_size=self.validation_fraction, stratify=stratify
        )
        if parts[1].shape[0] < 2:
            raise ValueError(
                "The validation set is too small. Increase 'validation_fraction' or the size of your dataset."
            )
        train_weight, held_weight = (None, None) if weight is None else (parts[4], parts[5])
        return parts[0], parts[2], train_weight, (parts[1], parts[3], held_weight)

    _loss_scale = 1.0
    _loss_constant = 0.0

    def _set_loss_constant(self, Y: Array, weight: Array | None) -> None:
        """What the loss that is trained on leaves out."""

    def _scorer(self, held_out: tuple[Any, Array, Array | None]) -> Callable[[], float]:
        """The score of the held-out rows, as early stopping asks for it."""
        X, Y, weight = held_out
        if self.scoring == "loss":
            return lambda: -self._trainer.history[-1]["val_loss"]
        if self.scoring is None:
            rows = as_rows(X)
            return lambda: self._score_held_out(self._trainer._outputs(rows, "X_val"), Y, weight)
        from sklearn.metrics import check_scoring

        scorer = check_scoring(self, scoring=self.scoring)
        answers = self._answers_of_targets(Y)

        def score() -> float:
            twin = copy.copy(self)  # the rows here have no column names
            twin.__dict__.pop("feature_names_in_", None)
            return float(scorer(twin, X, answers, **({} if weight is None else {"sample_weight": weight})))

        return score

    def _answers_of_targets(self, Y: Array) -> Array:
        """Targets as the user gave them."""
        return Y

    def _thread_count(self) -> int | None:
        """As many threads as are usable, but one in a thread that joblib or dask has started beside others."""
        if self.threads is not None or threading.current_thread() is threading.main_thread():
            return None if self.threads is None else int(self.threads)
        from joblib.parallel import get_active_backend

        return 1 if (get_active_backend()[0].nesting_level or 0) > 0 else None

    def _fit_lbfgs(self, X: Any, Y: Array, weight: Array | None) -> None:
        loss, dtype = self._loss(), self.coefs_[0].dtype
        self._set_loss_constant(Y, weight)
        network = Network(
            self.coefs_, self.intercepts_, activation=self.activation, dropout=float(self.dropout),
            layer_norm=bool(self.layer_norm), backend=self.backend, rest=self.__dict__.get("_rest"),
            dtype=np.dtype(np.float64),
        )  # fmt: skip
        rows = check_rows(as_rows(X), self._targets(Y), weight, network.model, loss, "fit")
        objective = Objective(
            network, loss, rows, float(self.alpha), self._loss_scale, self._loss_constant, self._thread_count()
        )
        from sklearn.utils.optimize import _check_optimize_result

        found = minimize(objective, max_iter=self.max_iter, max_fun=self.max_fun, tol=self.tol)
        self.n_iter_ = _check_optimize_result("lbfgs", found, self.max_iter)
        self.loss_ = float(found.fun)
        self.coefs_ = [coef.astype(dtype) for coef in network.coefs]
        self.intercepts_ = [intercept.astype(dtype) for intercept in network.intercepts]
        self._rest = network.rest()
        self._forget()
        self._linked()

    # ---------------------------------------------------------------------------------------- applying

    def _linked(self) -> Network:
        """The model with the weights that ``coefs_`` and ``intercepts_`` hold, also where they were replaced."""
        network: Network | None = self.__dict__.get("_network")
        if network is None or [c.shape for c in network.coefs] != [np.shape(c) for c in self.coefs_]:
            self._forget()
            network = self._network = Network(
                self.coefs_, self.intercepts_, activation=self.activation, dropout=float(self.dropout),
                layer_norm=bool(self.layer_norm), backend=self.backend, rest=self.__dict__.get("_rest"),
            )  # fmt: skip
        elif not network.shows(self.coefs_, self.intercepts_):
            network.load(self.coefs_, self.intercepts_)
        self._show(network)
        return network

    def _show(self, network: Network) -> None:
        """Let the attributes hold the views, in lists of their own: an entry that is replaced is seen."""
        if not network.shows(self.coefs_, self.intercepts_):
            self.coefs_, self.intercepts_ = list(network.coefs), list(network.intercepts)

    def _outputs(self, X: Any) -> Array:
        """The model's outputs (N, O), before the output activation, for checked or unchecked rows."""
        if not hasattr(self, "coefs_"):
            check_is_fitted(self)
            raise NotFittedError(f"This {type(self).__name__} is not fitted yet; call fit first.")
        network = self._linked()
        plain = (
            type(X) is np.ndarray
            and X.ndim == 2
            and X.dtype in _FLOATS
            and X.shape[1] == network.model.in_width
            and len(X)
            and not hasattr(self, "feature_names_in_")
        )
        if not (plain and np.isfinite(X).all()):  # what scikit-learn's check says is wrong with it, or makes of it
            X = as_rows(validate_data(self, X, accept_sparse=["csr", "csc"], dtype=_FLOATS, reset=False))
        if plain and len(X) == 1:
            out: Array = network.model.backend.to_numpy(network.model.infer(X))
            return out
        return Evaluator(network.model, self._loss())._outputs(X, "X")

    def compiled_predict(self) -> Callable[[Any], Array]:
        """`predict` of the present weights by `fastmlp.Predictor`, without scikit-learn's validation.

        Returns
        -------
        callable
            ``f(X)`` for an ndarray X of shape (N, features), float32 or float64; later changes of the estimator do
            not reach it.
        """
        if not hasattr(self, "coefs_"):
            raise NotFittedError(f"This {type(self).__name__} is not fitted yet; call fit first.")
        network = self._linked()
        network.model.task = self._loss().task
        network.model.classes = self._labels()
        return self._compiled(Predictor(network.model))

    def _compiled(self, predictor: Predictor) -> Callable[[Any], Array]:
        return predictor.predict

    def _labels(self) -> list[Any] | None:
        return None

    def _solver_takes_steps(self) -> bool:
        if self.solver not in _STOCHASTIC:
            raise AttributeError(f"partial_fit is for the solvers sgd and adam, not for {self.solver}.")
        return True

    # -------------------------------------------------------------------------------------- copying

    def __getstate__(self) -> dict[str, Any]:
        state = dict(super().__getstate__())
        for name in ("_network", "_trainer"):
            state.pop(name, None)
        for name in ("coefs_", "intercepts_"):
            if name in state:
                state[name] = [np.array(array) for array in state[name]]
        return state

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags


def as_rows(X: Any) -> Any:
    """Sparse rows by rows, all else as it is."""
    return sparse.csr_array(X) if sparse.issparse(X) else X
