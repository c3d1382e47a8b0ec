"""BaseMLP: common base of MLPClassifier and MLPRegressor, which fits with `Trainer`."""

from __future__ import annotations

import copy
import threading
import warnings
from collections.abc import Callable
from numbers import Integral, Real
from typing import Any

import numpy as np
from scipy import sparse
from sklearn.base import is_classifier
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, Options, StrOptions
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from .._common.errors import DivergenceError
from .._common.validation import Array
from .._kernels import BACKENDS
from ..callbacks.base import as_callbacks
from ..callbacks.progress import ProgressBar
from ..inference.predictor import Predictor
from ..io.row_paths import open_rows, open_rows_and_targets
from ..losses import Loss
from ..modules import Module
from ..training.batches import RowSubset, check_rows
from ..training.evaluator import Evaluator
from ..training.trainer import Trainer
from .lbfgs import Objective, minimize
from .network import ACTIVATIONS, Network, initial_weights
from .online import OnlineMLP
from .options import STOCHASTIC, require_options
from .solver import FitMonitor, Solver

__all__ = ["BaseMLP"]

_NOT_FINITE = (
    "Solver produced non-finite parameter weights. The input data may contain large values and need to be preprocessed."
)
_FLOATS = (np.dtype(np.float64), np.dtype(np.float32))
# Attributes of a fit by "sgd" or "adam", which "lbfgs" does not set.
_STOCHASTIC_ATTRIBUTES = (
    "_optimizer", "_trainer", "_place", "_seeded_by", "_no_improvement_count", "loss_curve_",
    "validation_loss_curve_", "validation_scores_", "best_validation_score_", "best_loss_",
)  # fmt: skip


class BaseMLP(OnlineMLP):
    """Base class of the estimators; not for direct use."""

    _parameter_constraints: dict[str, Any] = {
        "hidden_layer_sizes": ["array-like", Interval(Integral, 1, None, closed="left")],
        "activation": [StrOptions(ACTIVATIONS.keys())],
        "solver": [StrOptions({"lbfgs", "sgd", "adam"})],
        "alpha": [Interval(Real, 0, None, closed="left")],
        "batch_size": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "learning_rate": [StrOptions({"constant", "invscaling", "adaptive"})],
        "learning_rate_init": [Interval(Real, 0, None, closed="neither")],
        "power_t": [Interval(Real, 0, None, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "shuffle": ["boolean", StrOptions({"full", "windows"})],
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

    def _store_params(self, parameters: dict[str, Any]) -> None:
        """Store the constructor's parameters, given as its ``locals()``, unchanged."""
        for name, value in parameters.items():
            if name not in ("self", "__class__"):
                setattr(self, name, value)

    # ------------------------------------------------------------------- methods of the derived classes

    def _loss(self) -> Loss:
        """Return the training loss; ``loss_`` is ``_loss_scale`` times its value plus ``_loss_constant``."""
        raise NotImplementedError

    def _targets(self, Y: Array) -> Array:
        """Convert ``Y (N, O)`` to the form that the loss expects."""
        raise NotImplementedError

    def _validate_input(self, X: Any, y: Any, incremental: bool, reset: bool) -> tuple[Any, Array]:
        """Return validated (X, Y), with numbers Y (N,) or (N, O)."""
        raise NotImplementedError

    def _is_validated(self, X: Any) -> bool:
        """Return whether scikit-learn's validation would return ``X`` as it is; it takes longer than a few rows do."""
        return (
            type(X) is np.ndarray
            and X.ndim == 2
            and X.dtype in kept_dtypes(X)
            and X.shape[1] == self.n_features_in_
            and len(X) > 0
            and not hasattr(self, "feature_names_in_")
            and bool(np.isfinite(X).all())
        )

    def _are_validated(self, X: Any, y: Any) -> bool:
        """Return whether scikit-learn's validation would return the rows of a further call as they are."""
        return type(y) is np.ndarray and self._is_validated(X) and len(X) == len(y)

    def _output_activation(self) -> str:
        raise NotImplementedError

    def _balance(self, y: Any, sample_weight: Array | None, incremental: bool) -> Array | None:
        """Multiply sample weights by class weights."""
        return sample_weight

    def _score_held_out(self, outputs: Array, Y: Array, weight: Array | None) -> float:
        """Return the default score of outputs for held-out rows."""
        raise NotImplementedError

    # ----------------------------------------------------------------------------------------- fitting

    _seeded_by: Any  # the random_state from which the trainer's seed was drawn
    _place: tuple[Any, ...] | None  # see `_training_position`

    def _fit(self, X: Any, y: Any, sample_weight: Any, incremental: bool, X_val: Any = None, y_val: Any = None) -> Any:
        X, y = open_rows_and_targets(X, y, "fit")
        X_val, y_val = open_rows_and_targets(X_val, y_val, "fit", "test", "X_val y_val")
        sizes = require_options(self, incremental, X_val, y_val)
        first = not hasattr(self, "coefs_") or (not self.warm_start and not incremental)
        X, Y = self._validate_input(X, y, incremental, reset=first)
        if sample_weight is not None:
            sample_weight = _check_sample_weight(sample_weight, X)
        weight = self._balance(y, sample_weight, incremental)
        held_out = None if X_val is None else self._validate_held_out(X_val, y_val)
        Y = Y.reshape(len(Y), -1)
        random_state = check_random_state(self.random_state)
        if first:
            self.n_outputs_ = Y.shape[1]
            self._start(X, sizes, random_state)
        else:
            self._require_same_net(sizes, Y.shape[1])
        if incremental and weight is not sample_weight and weight is not None and not weight.any():
            self.n_iter_, self.loss_ = 1, 0.0  # all rows are of classes of weight 0
        elif self.solver == "lbfgs":
            self._fit_lbfgs(X, Y, weight)
        else:
            self._fit_stochastic(X, Y, weight, random_state, incremental, held_out, continued=not first)
        if not all(np.isfinite(array).all() for array in (*self.coefs_, *self.intercepts_)):
            raise ValueError(_NOT_FINITE)
        return self

    def _require_same_net(self, sizes: list[int], outputs: int) -> None:
        fitted = [len(c) for c in self.coefs_[1:]], np.shape(self.coefs_[-1])[1]
        if fitted != (sizes, outputs):
            raise ValueError(
                f"The fitted net has hidden layers {fitted[0]} and {fitted[1]} outputs; expected {sizes} and {outputs} "
                "to continue its training."
            )
        activation = self._output_activation()
        if activation != self.out_activation_:
            raise ValueError(
                f"The fitted net has the output activation {self.out_activation_!r}, its parameters require "
                f"{activation!r}; expected the same to continue its training, or warm_start=False."
            )

    def _validate_held_out(self, X_val: Any, y_val: Any) -> tuple[Any, Array, None]:
        X, Y = self._validate_input(X_val, y_val, True, reset=False)
        if self.early_stopping and len(Y) < 2:
            raise ValueError(f"The validation set is too small: X_val has {len(Y)} row; expected at least 2.")
        return X, Y.reshape(len(Y), -1), None

    def _start(self, X: Any, sizes: list[int], random_state: np.random.RandomState) -> None:
        self.n_iter_ = self.t_ = 0
        self.out_activation_ = self._output_activation()
        widths = [X.shape[1], *sizes, self.n_outputs_]
        self.n_layers_ = len(widths)
        self.coefs_, self.intercepts_ = initial_weights(
            widths, self.activation, random_state, X.dtype if X.dtype in _FLOATS else np.dtype(np.float64)
        )
        self._clear("_rest", "_network", *_STOCHASTIC_ATTRIBUTES)
        if self.solver in STOCHASTIC:
            self._init_curves()

    def _clear(self, *names: str) -> None:
        """Delete attributes that exist."""
        for name in names:
            self.__dict__.pop(name, None)

    def _init_curves(self) -> None:
        """Initialize the curves of a stochastic fit, and the scores if the kind of early stopping changed."""
        if not hasattr(self, "loss_curve_"):
            self.loss_curve_: list[float] = []
            self.validation_loss_curve_: list[float] = []
        early = bool(self.early_stopping)
        if not hasattr(self, "best_loss_") or early != (self.best_loss_ is None):
            self._no_improvement_count = 0
            self.validation_scores_: list[float] | None = [] if early else None
            self.best_validation_score_: float | None = -np.inf if early else None
            self.best_loss_: float | None = None if early else np.inf

    def _fit_stochastic(
        self,
        X: Any,
        Y: Array,
        weight: Array | None,
        random_state: np.random.RandomState,
        incremental: bool,
        held_out: tuple[Any, Array, Array | None] | None,
        continued: bool,
    ) -> None:
        self._init_curves()
        given, features, targets, weights = held_out is not None, as_rows(X), Y, weight
        if self.early_stopping and held_out is None:
            chosen, held_out = self._split(features, Y, weight, random_state)
            features = RowSubset(features, chosen)
            Y, weight = Y[chosen], None if weight is None else weight[chosen]
        rows = len(Y)
        batch = min(200, rows) if self.batch_size == "auto" else int(self.batch_size)
        if batch > rows:
            warnings.warn(
                f"batch_size is {batch}, the training set has {rows} rows: they make one batch.", stacklevel=4
            )
            batch = rows
        self._set_loss_constant(Y, weight)
        network = self._sync_network()
        trainer = self._prepare_trainer(network, incremental)
        seed = None
        if trainer.seed is None or not _same(self.random_state, self._seeded_by):
            seed, self._seeded_by = int(random_state.randint(np.iinfo(np.int32).max)), self.random_state
        used = rows if weight is None else int(np.count_nonzero(weight))
        validation = None
        if held_out is not None and (given or self.scoring == "loss"):
            validation = (as_rows(held_out[0]), self._targets(held_out[1]), held_out[2])
        score = self._scorer(held_out) if self.early_stopping and held_out is not None else None
        of_loss = self._loss_scale, self._loss_constant
        assert self._optimizer is not None
        monitor = FitMonitor(
            self, self._optimizer, of_loss, used, min(batch, used), score, continued, self._no_improvement_count
        )
        self.n_iter_ = 0
        listeners = [monitor, *as_callbacks(self.callbacks), *([ProgressBar()] if self.progress_bar else ())]
        try:
            trainer.fit(
                features, self._targets(targets), validation=validation, batch_size=batch,
                epochs=1 if incremental else int(self.max_iter), sample_weight=weights, callbacks=listeners, rng=seed,
                threads=self._thread_count(), shuffle=self.shuffle, augment=self.augment,
            )  # fmt: skip
        except KeyboardInterrupt:
            warnings.warn("Training interrupted by user.", stacklevel=4)
        except DivergenceError as error:
            if score is None:
                raise ValueError(f"{_NOT_FINITE} {error}") from error
            assert self.validation_scores_ is not None
            self.validation_scores_.append(float("nan"))
            kept = "" if monitor.best is None else " The best weights are kept."
            warnings.warn(f"{error}{kept}", ConvergenceWarning, stacklevel=4)
        else:
            if not incremental and self.n_iter_ == self.max_iter and not monitor.converged:
                warnings.warn(
                    f"Maximum iterations ({self.max_iter}) reached and the optimization hasn't converged yet.",
                    ConvergenceWarning,
                    stacklevel=4,
                )
        finally:
            self._no_improvement_count = monitor.no_improvement_count
        if score is not None and monitor.best is None and self.validation_scores_:
            self.best_validation_score_ = float("nan")
            warnings.warn(
                "No validation score is a number: the weights are the last ones, not the best ones.",
                ConvergenceWarning,
                stacklevel=4,
            )
        network.refresh()
        self._expose_weights(network)
        self._rest = network.other_arrays()

    def _prepare_trainer(self, network: Network, incremental: bool) -> Trainer:
        """Return the trainer with the present parameters; `partial_fit` continues with that of the previous call."""
        solver: Solver | None = self.__dict__.get("_optimizer") if incremental else None
        if solver is not None and solver.settings != Solver.settings_of(self):
            solver = Solver(self, previous=solver)
        if solver is None or not solver.matches_model(network.model):
            solver = Solver(self)
        self._optimizer = solver
        loss, trainer = self._loss(), self.__dict__.get("_trainer") if incremental else None
        if trainer is None or trainer.model is not network.model:
            trainer = Trainer(network.model, loss, solver.optimizer, classes=self._labels())
            if incremental and self._place is not None:
                trainer.place = self._place
            self._trainer = trainer
        elif type(trainer.loss) is not type(loss) or trainer.loss.settings() != loss.settings():
            trainer.loss = loss
        trainer.optimizer, trainer.l2 = solver.optimizer, float(self.alpha)
        return trainer

    def _split(
        self, X: Any, Y: Array, weight: Array | None, random_state: Any
    ) -> tuple[Array, tuple[Any, Array, Array | None]]:
        """Return the numbers of the training rows and the held-out rows, by scikit-learn's random numbers."""
        stratify = Y.astype(bool) if is_classifier(self) and self.n_outputs_ == 1 else None
        train, held = train_test_split(
            np.arange(len(Y)), random_state=random_state, test_size=self.validation_fraction, stratify=stratify
        )
        held_weight = None if weight is None else weight[held]
        if len(held) < 2 or (held_weight is not None and not held_weight.any()):
            raise ValueError(
                "The validation set is too small. Increase 'validation_fraction' or the size of your dataset."
            )
        return train, (X[held], Y[held], held_weight)

    _loss_scale = 1.0
    _loss_constant = 0.0

    def _scorer(self, held_out: tuple[Any, Array, Array | None]) -> Callable[[], float]:
        """Return a function that computes the score of the held-out rows for early stopping."""
        X, Y, weight = held_out
        if self.scoring == "loss":
            rows = as_rows(X), self._targets(Y), weight

            def negative_loss() -> float:
                trainer = self._trainer
                # Before the first evaluation: the loss of the initial weights.
                last = trainer.history.last or {"val_loss": trainer.evaluate(*rows)["loss"]}
                return -float(last["val_loss"])

            return negative_loss
        if self.scoring is None:
            rows = as_rows(X)
            return lambda: self._score_held_out(self._trainer._outputs(rows, "X_val"), Y, weight)
        from sklearn.metrics import check_scoring

        scorer = check_scoring(self, scoring=self.scoring)
        answers = self._decode_targets(Y)

        def score() -> float:
            twin = copy.copy(self)  # without feature names, which these validated rows lack
            twin.__dict__.pop("feature_names_in_", None)
            return float(scorer(twin, X, answers, **({} if weight is None else {"sample_weight": weight})))

        return score

    def _decode_targets(self, Y: Array) -> Array:
        """Convert encoded targets back to the user's labels or values."""
        return Y

    def _thread_count(self) -> int | None:
        """Return the number of threads: one inside a worker thread of joblib or dask, else None for the default."""
        if self.threads is not None or threading.current_thread() is threading.main_thread():
            return None if self.threads is None else int(self.threads)
        from joblib.parallel import get_active_backend

        return 1 if (get_active_backend()[0].nesting_level or 0) > 0 else None

    def _fit_lbfgs(self, X: Any, Y: Array, weight: Array | None) -> None:
        loss, dtype = self._loss(), self.coefs_[0].dtype
        self._set_loss_constant(Y, weight)
        network = Network.from_estimator(self, np.dtype(np.float64))
        rows = check_rows(as_rows(X), self._targets(Y), weight, network.model, loss, "fit")
        objective = Objective(
            network, loss, rows, float(self.alpha), self._loss_scale, self._loss_constant, self._thread_count()
        )
        from sklearn.utils.optimize import _check_optimize_result

        found = minimize(
            objective, max_iter=self.max_iter, max_fun=self.max_fun, tol=self.tol, verbose=bool(self.verbose)
        )
        self.n_iter_ = _check_optimize_result("lbfgs", found, self.max_iter)
        self.loss_ = float(found.fun)
        self.coefs_ = [coef.astype(dtype) for coef in network.coefs]
        self.intercepts_ = [intercept.astype(dtype) for intercept in network.intercepts]
        self._rest = network.other_arrays()
        self._clear("_network", *_STOCHASTIC_ATTRIBUTES)
        self._sync_network()

    # -------------------------------------------------------------------------------------- prediction

    def _sync_network(self) -> Network:
        """Return the network with the present parameters and the weights in ``coefs_`` and ``intercepts_``.

        Parameters and weights may have been replaced since the fit; the changes take effect at once, as in
        scikit-learn.
        """
        network: Network | None = self.__dict__.get("_network")
        if network is None or not network.matches(self):
            if network is not None:  # the parameters were changed by set_params, which does not validate
                self._validate_params()
            self._place = self._training_position()
            self._clear("_trainer")
            network = self._network = Network.from_estimator(self)
        elif not network.has_views(self.coefs_, self.intercepts_):
            network.load(self.coefs_, self.intercepts_)
        self._expose_weights(network)
        return network

    def _training_position(self) -> tuple[Any, ...] | None:
        """How far training has come: `Trainer.place`, by which the next call of `partial_fit` goes on."""
        trainer: Trainer | None = self.__dict__.get("_trainer")
        if trainer is None:
            return self.__dict__.get("_place")
        return trainer.place

    def _expose_weights(self, network: Network) -> None:
        """Set ``coefs_`` and ``intercepts_`` to new lists of the views, so that a replaced entry can be detected."""
        if not network.has_views(self.coefs_, self.intercepts_):
            self.coefs_, self.intercepts_ = list(network.coefs), list(network.intercepts)

    def _outputs(self, X: Any) -> Array:
        """Compute the model's outputs (N, O) before the output activation."""
        if not hasattr(self, "coefs_"):
            check_is_fitted(self)
            raise NotFittedError(f"This {type(self).__name__} is not fitted yet; call fit first.")
        X = open_rows(X, "predict: X")
        found = self._infer_online(X)
        if found is not None:
            return found
        network = self._sync_network()
        if type(X) is np.ndarray and X.dtype in _FLOATS and not hasattr(self, "feature_names_in_"):
            found = network.infer_few(X)
            if found is not None:
                return found
        plain = self._is_validated(X)
        if not plain:  # scikit-learn converts the rows or raises its usual errors
            X = as_rows(validate_data(self, X, accept_sparse=["csr", "csc"], dtype=kept_dtypes(X), reset=False))
        if plain and len(X) == 1:
            out: Array = network.model.backend.to_numpy(network.model.infer(X))
            return out
        return Evaluator(network.model, self._loss())._outputs(X, "X")

    def compiled_predict(self) -> Callable[[Any], Array]:
        """Return a fast version of `predict` with the present weights, without scikit-learn's validation.

        Returns
        -------
        callable
            ``f(X)`` for an ndarray X of shape (N, features), float32 or float64. It uses `fastmlp.Predictor`; later
            changes of the estimator have no effect on it.

        Examples
        --------
        >>> import fastmlp as fm, numpy as np
        >>> X = np.array([[0.0], [1.0]] * 10)
        >>> net = fm.MLPRegressor(hidden_layer_sizes=(4,), solver="lbfgs", random_state=0).fit(X, X[:, 0])
        >>> predict = net.compiled_predict()
        >>> np.allclose(predict(X), net.predict(X))
        True
        """
        if not hasattr(self, "coefs_"):
            raise NotFittedError(f"This {type(self).__name__} is not fitted yet; call fit first.")
        network = self._sync_network()
        network.model.task = self._loss().task
        network.model.classes = self._labels()
        return self._compiled(Predictor(network.model))

    def _compiled(self, predictor: Predictor) -> Callable[[Any], Array]:
        return predictor.predict

    def _labels(self) -> list[Any] | None:
        return None

    def _solver_is_stochastic(self) -> bool:
        if self.solver not in STOCHASTIC:
            raise AttributeError(f"partial_fit is for the solvers sgd and adam, not for {self.solver}.")
        return True

    # -------------------------------------------------------------------------------------- copying

    def __getstate__(self) -> dict[str, Any]:
        state = dict(super().__getstate__())
        if "_trainer" in state:
            state["_place"] = self._training_position()
        for name in ("_network", "_trainer", "_online"):
            state.pop(name, None)
        for name in ("coefs_", "intercepts_"):
            if name in state:
                state[name] = [np.array(array) for array in state[name]]
        return state

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags


def _same(one: Any, other: Any) -> bool:
    """Whether two values of ``random_state`` are the same object or equal integers."""
    return one is other or (isinstance(one, Integral) and isinstance(other, Integral) and one == other)


def kept_dtypes(X: Any) -> list[np.dtype[Any]]:
    """Return the dtypes that features are used in without a conversion; others are converted to the first."""
    # A sparse matrix may have several entries at one place, whose sum may be too large for uint8.
    return [*_FLOATS] if sparse.issparse(X) else [*_FLOATS, np.dtype(np.uint8)]


def as_rows(X: Any) -> Any:
    """Convert a sparse matrix to CSR format; return other values unchanged."""
    return sparse.csr_array(X) if sparse.issparse(X) else X


def model_of(estimator: BaseMLP) -> Module:
    """The model of a fitted estimator, by its present parameters and weights."""
    return estimator._sync_network().model
