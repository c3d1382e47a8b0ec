"""BaseMLP: common base of MLPClassifier and MLPRegressor, which fits with `Trainer`."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from numbers import Integral, Real
from typing import Any

import numpy as np
from scipy import sparse
from sklearn.exceptions import NotFittedError
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, Options, StrOptions
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from .._common.group import Group
from .._common.validation import Array
from .._kernels import BACKENDS
from ..inference.predictor import Predictor
from ..io.row_paths import open_rows, open_rows_and_targets
from ..modules import Module
from ..training.batches import check_rows
from ..training.evaluator import Evaluator
from ..training.ranks import require_group
from ..training.trainer import Trainer
from .lbfgs import Objective, minimize
from .network import ACTIVATIONS, Network, initial_weights
from .options import STOCHASTIC, require_options
from .stochastic import NOT_FINITE, StochasticMLP, as_rows

__all__ = ["BaseMLP"]

_FLOATS = (np.dtype(np.float64), np.dtype(np.float32))
# Attributes that all nets of an estimator have in common.
_SHARED_ATTRIBUTES = ("_label_binarizer", "classes_", "n_features_in_", "n_outputs_")
# Attributes of a fit by "sgd" or "adam", which "lbfgs" does not set.
_STOCHASTIC_ATTRIBUTES = (
    "_optimizer", "_trainer", "_place", "_seeded_by", "_no_improvement_count", "loss_curve_",
    "validation_loss_curve_", "validation_scores_", "best_validation_score_", "best_loss_",
)  # fmt: skip


class BaseMLP(StochasticMLP):
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
        "n_nets": [Interval(Integral, 1, None, closed="left")],
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

    def _output_activation(self) -> str:
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

    def _balance(self, y: Any, sample_weight: Array | None, incremental: bool) -> Array | None:
        """Multiply sample weights by class weights."""
        return sample_weight

    # ----------------------------------------------------------------------------------------- fitting

    def _fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any,
        incremental: bool,
        X_val: Any = None,
        y_val: Any = None,
        group: Group | None = None,
        pieces: int | str | None = None,
    ) -> Any:
        require_group(group)
        if pieces is not None and self.solver == "lbfgs":
            raise ValueError(f"pieces is {pieces!r}; expected None for solver='lbfgs', which has all rows in a batch.")
        if (group is not None or pieces is not None) and self.n_nets > 1:
            raise ValueError(f"n_nets is {self.n_nets}; expected 1 with a group or pieces.")
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
            self._make_others(random_state)
        else:
            self._require_same_net(sizes, Y.shape[1])
        nets = [self, *self._others()]
        random_states = [random_state, *(check_random_state(net.random_state) for net in nets[1:])]
        if first:
            for net, state in zip(nets, random_states, strict=True):
                net._start(X, sizes, state)
        if incremental and weight is not sample_weight and weight is not None and not weight.any():
            for net in nets:
                net.n_iter_, net.loss_ = 1, 0.0  # all rows are of classes of weight 0
        elif self.solver == "lbfgs":
            for net in nets:
                net._fit_lbfgs(X, Y, weight, group)
        else:
            ranks = {name: value for name, value in (("group", group), ("pieces", pieces)) if value is not None}
            self._fit_stochastic(X, Y, weight, random_states, incremental, held_out, not first, ranks)
        if not all(np.isfinite(array).all() for net in nets for array in (*net.coefs_, *net.intercepts_)):
            raise ValueError(NOT_FINITE)
        return self

    def _make_others(self, random_state: np.random.RandomState) -> None:
        """Set ``other_nets_``, whose random states are drawn without an effect on those of the first net."""
        self._clear("other_nets_")
        if self.n_nets == 1:
            return
        self.other_nets_ = []
        for seed in copy.deepcopy(random_state).randint(np.iinfo(np.int32).max, size=self.n_nets - 1):
            net = type(self)(**{**self.get_params(deep=False), "n_nets": 1, "random_state": int(seed)})
            for name in _SHARED_ATTRIBUTES:
                if name in self.__dict__:
                    setattr(net, name, self.__dict__[name])
            self.other_nets_.append(net)

    def _others(self) -> list[BaseMLP]:
        """Return ``other_nets_`` with the present parameters; empty for a single net."""
        others: list[BaseMLP] = self.__dict__.get("other_nets_", [])
        if others:
            parameters = self.get_params(deep=False)
            for name in ("n_nets", "random_state"):
                del parameters[name]
            for net in others:
                for name, value in parameters.items():
                    setattr(net, name, value)
        return others

    def _require_same_net(self, sizes: list[int], outputs: int) -> None:
        fitted = [len(c) for c in self.coefs_[1:]], np.shape(self.coefs_[-1])[1]
        if fitted != (sizes, outputs):
            raise ValueError(
                f"The fitted net has hidden layers {fitted[0]} and {fitted[1]} outputs; expected {sizes} and {outputs} "
                "to continue its training."
            )
        nets = 1 + len(self.__dict__.get("other_nets_", ()))
        if nets != self.n_nets:
            raise ValueError(
                f"The fitted estimator has n_nets={nets}, its parameters require {self.n_nets}; expected the same to "
                "continue its training, or warm_start=False."
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
            twin = copy.copy(self)  # without the other nets, and feature names, which these validated rows lack
            for name in ("feature_names_in_", "other_nets_"):
                twin.__dict__.pop(name, None)
            return float(scorer(twin, X, answers, **({} if weight is None else {"sample_weight": weight})))

        return score

    def _fit_lbfgs(self, X: Any, Y: Array, weight: Array | None, group: Group | None) -> None:
        loss, dtype = self._loss(), self.coefs_[0].dtype
        self._set_loss_constant(Y, weight)
        network = Network.from_estimator(self, np.dtype(np.float64))
        rows = check_rows(as_rows(X), self._targets(Y), weight, network.model, loss, "fit")
        objective = Objective(
            network, loss, rows, float(self.alpha), self._loss_scale, self._loss_constant, self._thread_count(), group
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
        if not plain:
            X = self._validate_rows(X)
        if plain and len(X) == 1:
            out: Array = network.model.backend.to_numpy(network.model.infer(X))
            return out
        return Evaluator(network.model, self._loss())._outputs(X, "X")

    def _validate_rows(self, X: Any) -> Any:
        """Convert rows to be predicted, or raise scikit-learn's usual errors."""
        return as_rows(validate_data(self, X, accept_sparse=["csr", "csc"], dtype=kept_dtypes(X), reset=False))

    def _mean_over_nets(self, X: Any, convert: Callable[[Array], Array]) -> Array:
        """Return the mean of ``convert(outputs)`` over all nets."""
        others = self._others()
        if not others:
            return convert(self._outputs(X))
        X = self._validate_rows(open_rows(X, "predict: X"))
        models = [net._sync_network().model for net in (self, *others)]
        return mean(convert(Evaluator(model, self._loss())._outputs(X, "X")) for model in models)

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
        predictors = []
        for net in (self, *self._others()):
            model = net._sync_network().model
            model.task, model.classes = self._loss().task, self._labels()
            predictors.append(Predictor(model))
        return self._compiled(predictors)

    def _compiled(self, predictors: list[Predictor]) -> Callable[[Any], Array]:
        """Return `predict` with the nets' predictors."""
        raise NotImplementedError

    def _solver_is_stochastic(self) -> bool:
        if self.solver not in STOCHASTIC:
            raise AttributeError(f"partial_fit is for the solvers sgd and adam, not for {self.solver}.")
        return True

    # -------------------------------------------------------------------------------------- copying

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__({"n_nets": 1, **state})  # of estimators that were saved before they had the parameter

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


def kept_dtypes(X: Any) -> list[np.dtype[Any]]:
    """Return the dtypes that features are used in without a conversion; others are converted to the first."""
    # A sparse matrix may have several entries at one place, whose sum may be too large for uint8.
    return [*_FLOATS] if sparse.issparse(X) else [*_FLOATS, np.dtype(np.uint8)]


def mean(arrays: Iterable[Array]) -> Array:
    """Return the mean of arrays of equal shape, in their order."""
    total, *rest = arrays
    if rest:
        total = sum(rest, total) / (1 + len(rest))
    return total


def models_of(estimator: BaseMLP) -> list[Module]:
    """Return the models of all nets of a fitted estimator, by its present parameters and weights."""
    return [net._sync_network().model for net in (estimator, *estimator._others())]
