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
from sklearn.utils._param_validation import Interval, Options, StrOptions
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from .._common.errors import DivergenceError
from .._common.validation import Array
from .._kernels import BACKENDS
from ..callbacks.base import as_callbacks
from ..callbacks.progress import ProgressBar
from ..inference.predictor import Predictor
from ..losses import Loss
from ..training.batches import check_rows
from ..training.evaluator import Evaluator
from ..training.trainer import Trainer
from .lbfgs import Objective, minimize
from .network import ACTIVATIONS, Network, initial_weights
from .options import STOCHASTIC, require_options
from .solver import Progress, Solver

__all__ = ["BaseMLP"]

_NOT_FINITE = (
    "Solver produced non-finite parameter weights. The input data may contain large values and need to be preprocessed."
)
_FLOATS = (np.dtype(np.float64), np.dtype(np.float32))
# What fits by them leave, and those by "lbfgs" do not.
_OF_STEPS = (
    "_optimizer", "_trainer", "_place", "_seeded_by", "_converged", "_no_improvement_count", "loss_curve_",
    "validation_loss_curve_", "validation_scores_", "best_validation_score_", "best_loss_",
)  # fmt: skip


class BaseMLP(BaseEstimator):  # type: ignore[misc]
    """Base of the estimators; not for use by itself."""

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

    def _balance(self, y: Any, sample_weight: Array | None, incremental: bool) -> Array | None:
        """Sample weights with class weights in them."""
        return sample_weight

    def _score_held_out(self, outputs: Array, Y: Array, weight: Array | None) -> float:
        """The default score of outputs."""
        raise NotImplementedError

    # ----------------------------------------------------------------------------------------- fitting

    _seeded_by: Any  # the random_state that gave the trainer's seed
    _place: tuple[Any, ...] | None  # see `_where`

    def _fit(self, X: Any, y: Any, sample_weight: Any, incremental: bool, X_val: Any = None, y_val: Any = None) -> Any:
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
            self.n_iter_, self.loss_ = 1, 0.0  # rows of classes that are to be ignored: nothing to learn
        elif self.solver == "lbfgs":
            self._fit_lbfgs(X, Y, weight)
        else:
            self._fit_stochastic(X, Y, weight, random_state, incremental, held_out, goes_on=not first)
        if not all(np.isfinite(array).all() for array in (*self.coefs_, *self.intercepts_)):
            raise ValueError(_NOT_FINITE)
        return self

    def _require_same_net(self, sizes: list[int], outputs: int) -> None:
        fitted = [len(c) for c in self.coefs_[1:]], np.shape(self.coefs_[-1])[1]
        if fitted != (sizes, outputs):
            raise ValueError(
                f"The fitted net has hidden layers {fitted[0]} and {fitted[1]} outputs; expected {sizes} and {outputs} "
                "to go on with it."
            )
        activation = self._output_activation()
        if activation != self.out_activation_:
            raise ValueError(
                f"The fitted net has the output activation {self.out_activation_!r}, and its parameters now ask for "
                f"{activation!r}; expected the same to go on with it, or warm_start=False."
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
        self.coefs_, self.intercepts_ = initial_weights(widths, self.activation, random_state, X.dtype)
        self._drop("_rest", "_network", *_OF_STEPS)
        if self.solver in STOCHASTIC:
            self._begin_curves()

    def _drop(self, *names: str) -> None:
        """Forget attributes, where there are any."""
        for name in names:
            self.__dict__.pop(name, None)

    def _begin_curves(self) -> None:
        """Make the attributes of a stochastic fit that the fits before have not, or of another kind of stopping."""
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
        goes_on: bool,
    ) -> None:
        self._begin_curves()
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
        self._set_loss_constant(Y, weight)
        network = self._linked()
        trainer = self._make_ready(network, incremental)
        seed = None
        if trainer.seed is None or not _same(self.random_state, self._seeded_by):
            seed, self._seeded_by = int(random_state.randint(np.iinfo(np.int32).max)), self.random_state
        used = rows if weight is None else int(np.count_nonzero(weight))
        validation = None
        if held_out is not None and (given or self.scoring == "loss"):
            validation = (as_rows(held_out[0]), self._targets(held_out[1]), held_out[2])
        score = self._scorer(held_out) if self.early_stopping and held_out is not None else None
        progress = Progress(self, used, min(batch, used), score, goes_on)
        self.n_iter_, self._converged = 0, False
        listeners = [progress, *as_callbacks(self.callbacks), *([ProgressBar()] if self.progress_bar else ())]
        try:
            trainer.fit(
                as_rows(X), self._targets(Y), validation=validation, batch_size=batch,
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
            kept = "" if progress.best is None else " The best weights are kept."
            warnings.warn(f"{error}{kept}", ConvergenceWarning, stacklevel=4)
        else:
            if not incremental and self.n_iter_ == self.max_iter and not self._converged:
                warnings.warn(
                    f"Maximum iterations ({self.max_iter}) reached and the optimization hasn't converged yet.",
                    ConvergenceWarning,
                    stacklevel=4,
                )
        if score is not None and progress.best is None and self.validation_scores_:
            self.best_validation_score_ = float("nan")
            warnings.warn(
                "No validation score is a number: the weights are the last ones, not the best ones.",
                ConvergenceWarning,
                stacklevel=4,
            )
        network.refresh()
        self._show(network)
        self._rest = network.rest()

    def _make_ready(self, network: Network, incremental: bool) -> Trainer:
        """The trainer: for `partial_fit` as the call before has left it, by the parameters as they are now."""
        solver: Solver | None = self.__dict__.get("_optimizer") if incremental else None
        if solver is not None and solver.settings != Solver.settings_of(self):
            solver = Solver(self, before=solver)
        if solver is None or not solver.belongs_to(network.model):
            solver = Solver(self)
        self._optimizer = solver
        loss, trainer = self._loss(), self.__dict__.get("_trainer") if incremental else None
        if trainer is None or trainer.model is not network.model:
            trainer = Trainer(network.model, loss, solver.optimizer, classes=self._labels())
            if incremental and self._place is not None:
                trainer.seed, trainer.steps, trainer._order.place = self._place
            self._trainer = trainer
        elif trainer.loss.config() != loss.config():
            trainer.loss = loss
        trainer.optimizer, trainer.l2 = solver.optimizer, float(self.alpha)
        return trainer

    def _split(self, X: Any, Y: Array, weight: Array | None, random_state: Any) -> tuple[Any, ...]:
        """Training and held-out parts, as scikit-learn draws them."""
        stratify = Y.astype(bool) if is_classifier(self) and self.n_outputs_ == 1 else None
        arrays = (X, Y) if weight is None else (X, Y, weight)
        parts = train_test_split(
            *arrays, random_state=random_state, test_size=self.validation_fraction, stratify=stratify
        )
        if parts[1].shape[0] < 2 or (weight is not None and not parts[5].any()):
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
            rows = as_rows(X), self._targets(Y), weight

            def less_loss() -> float:
                trainer = self._trainer
                last = trainer.history.last or {"val_loss": trainer.evaluate(*rows)["loss"]}  # of the first weights
                return -float(last["val_loss"])

            return less_loss
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
        network = Network.of(self, np.dtype(np.float64))
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
        self._rest = network.rest()
        self._drop("_network", *_OF_STEPS)
        self._linked()

    # ---------------------------------------------------------------------------------------- applying

    def _linked(self) -> Network:
        """The model by the present parameters, with the weights that ``coefs_`` and ``intercepts_`` hold.

        Both may have been replaced since a fit: what a parameter is set to counts at once, as with scikit-learn.
        """
        network: Network | None = self.__dict__.get("_network")
        if network is None or not network.fits(self):
            if network is not None:  # by `set_params`, which checks nothing
                self._validate_params()
            self._place = self._where()
            self._drop("_trainer")
            network = self._network = Network.of(self)
        elif not network.shows(self.coefs_, self.intercepts_):
            network.load(self.coefs_, self.intercepts_)
        self._show(network)
        return network

    def _where(self) -> tuple[Any, ...] | None:
        """How far training has come: (seed, steps, `Order.place`), by which the next call of `partial_fit` goes on."""
        trainer: Trainer | None = self.__dict__.get("_trainer")
        if trainer is None:
            return self.__dict__.get("_place")
        return trainer.seed, trainer.steps, trainer._order.place

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
        if self.solver not in STOCHASTIC:
            raise AttributeError(f"partial_fit is for the solvers sgd and adam, not for {self.solver}.")
        return True

    # -------------------------------------------------------------------------------------- copying

    def __getstate__(self) -> dict[str, Any]:
        state = dict(super().__getstate__())
        if "_trainer" in state:
            state["_place"] = self._where()
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


def _same(one: Any, other: Any) -> bool:
    """Whether two values of ``random_state`` are the same source; equal integers are."""
    return one is other or (isinstance(one, Integral) and isinstance(other, Integral) and one == other)


def as_rows(X: Any) -> Any:
    """Sparse rows by rows, all else as it is."""
    return sparse.csr_array(X) if sparse.issparse(X) else X
