"""Common base of TabularClassifier and TabularRegressor: an ensemble of networks on encoded columns."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import replace
from numbers import Integral, Real
from typing import Any, TypeVar

import numpy as np
from sklearn.base import BaseEstimator, clone
from sklearn.metrics import get_scorer_names
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import _check_sample_weight, check_is_fitted

from .._common.validation import Array
from ..estimators.stochastic import thread_count
from ..inference.predictor import Predictor
from ..losses import Loss
from ..modules import Module
from ..training.fit_many import fit_many
from .compiled import CompiledEnsemble
from .encoder import ColumnEncoder
from .networks import coded_inputs, make_network, network_inputs, reads_positions
from .presets import PRESETS, Preset
from .saving import read_ensemble, write_ensemble
from .scoring import as_score
from .training import OnlineFits, fit_options, held_out_parts, make_trainer, stop_at

__all__ = ["BaseTabular"]

_T = TypeVar("_T", bound="BaseTabular")


class BaseTabular(BaseEstimator):  # type: ignore[misc]
    """Base class of the estimators for tables; not for direct use."""

    _parameter_constraints: dict[str, Any] = {
        "preset": [StrOptions(set(PRESETS))],
        "n_nets": [Interval(Integral, 1, None, closed="left"), None],
        "hidden_layer_sizes": ["array-like", None],
        "learning_rate_init": [Interval(Real, 0, None, closed="neither"), None],
        "alpha": [Interval(Real, 0, None, closed="left"), None],
        "batch_size": [Interval(Integral, 1, None, closed="left"), None],
        "max_iter": [Interval(Integral, 1, None, closed="left"), None],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left"), None],
        "validation_fraction": [Interval(Real, 0, 0.5, closed="left")],
        "encoder": [ColumnEncoder, None],
        "scoring": [StrOptions(set(get_scorer_names())), callable, None],
        "time_limit": [Interval(Real, 0, None, closed="neither"), None],
        "random_state": ["random_state"],
        "threads": [Interval(Integral, 1, None, closed="left"), None],
    }

    _online: OnlineFits | None = None
    _held_out_predictions: Array | None = None
    _made: tuple[int | None, list[Predictor]] | None = None

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
        encoder: ColumnEncoder | None = None,
        scoring: Any = None,
        time_limit: float | None = None,
        random_state: Any = None,
        threads: int | None = None,
    ) -> None:
        self.preset, self.n_nets, self.hidden_layer_sizes = preset, n_nets, hidden_layer_sizes
        self.learning_rate_init, self.alpha, self.batch_size = learning_rate_init, alpha, batch_size
        self.max_iter, self.n_iter_no_change, self.validation_fraction = max_iter, n_iter_no_change, validation_fraction
        self.encoder, self.scoring, self.time_limit = encoder, scoring, time_limit
        self.random_state, self.threads = random_state, threads

    # ------------------------------------------------------------------- methods of the derived classes

    def _make_loss(self) -> Loss:
        raise NotImplementedError

    def _groups(self, targets: Array) -> Array:
        """Return a number for each row; each held-out part has the same share of rows of each number."""
        raise NotImplementedError

    # ----------------------------------------------------------------------------------------- fitting

    def _fit(
        self,
        X: Any,
        targets: Array,
        outputs: int,
        sample_weight: Any,
        callbacks: Any,
        evaluation: tuple[Any, Array] | None,
    ) -> None:
        """Fit encoder and nets to rows and ``targets`` as the loss expects them; ``evaluation`` are rows like these."""
        began, preset = time.monotonic(), self._settings()
        random_state = check_random_state(self.random_state)
        self._fit_encoder(X)
        positions = bool(coded_inputs(self.encoder_))
        features, weight = self._read_rows(X, len(targets), sample_weight, positions)
        count = len(features)
        if evaluation is None:
            held_out = held_out_parts(self._groups(targets), preset.n_nets, self.validation_fraction, random_state)
        else:
            others, _ = self._read_rows(evaluation[0], len(evaluation[1]), None, positions)
            features, targets = np.concatenate([features, others]), np.concatenate([targets, evaluation[1]])
            weight = None if weight is None else np.concatenate([weight, np.ones(len(others))])
            held_out = [np.arange(count, len(features))] * preset.n_nets
        seeds = random_state.randint(np.iinfo(np.int32).max, size=preset.n_nets)
        stop = [] if self.time_limit is None else [stop_at(began + self.time_limit)]
        trainers, each = [], []
        for seed, held in zip(seeds.tolist(), held_out, strict=True):
            rows = np.arange(count) if held is None else np.setdiff1d(np.arange(count), held)
            model = make_network(self.encoder_, preset.hidden, outputs, seed, preset.dropout)
            trainers.append(make_trainer(preset, model, self._make_loss()))
            measured = rows if held is None else held
            score = None if self.scoring is None else self._scorer(features[measured], targets[measured])
            each.append({"rng": seed, **fit_options(preset, rows, held, score, stop)})
            if callbacks is not None:
                each[-1]["callbacks"] += callbacks(len(each) - 1, trainers[-1])
        fit_many(trainers, features, targets, each=each, sample_weight=weight, threads=thread_count(self.threads))
        self.nets_ = [trainer.model for trainer in trainers]
        self.n_iter_ = max(len(trainer.history) for trainer in trainers)
        self._online = None
        self._measure_held_out(features, targets, weight, held_out, count)

    def _partial_fit(self, X: Any, targets: Array, outputs: int, sample_weight: Any) -> None:
        """Train all nets for one epoch over some rows; the first call without a fit fits the encoder to them."""
        preset = self._settings()
        if not hasattr(self, "nets_"):
            self._fit_encoder(X)
            seeds = check_random_state(self.random_state).randint(np.iinfo(np.int32).max, size=preset.n_nets)
            self.nets_ = [
                make_network(self.encoder_, preset.hidden, outputs, seed, preset.dropout) for seed in seeds.tolist()
            ]
            self.n_iter_ = 0
        features, weight = self._read_rows(X, len(targets), sample_weight, reads_positions(self.nets_[0]))
        if self._online is None:
            trainers = [make_trainer(preset, net, self._make_loss()) for net in self.nets_]
            seed = int(self.random_state) if isinstance(self.random_state, Integral) else None
            self._online = OnlineFits(trainers, seed)
        self._online.fit(features, targets, weight, preset.batch_size, thread_count(self.threads))
        self.n_iter_ += 1
        self._held_out_predictions = None
        self._made = None

    def _evaluation(self, eval_set: Any, as_targets: Callable[[Any], Array]) -> tuple[Any, Array] | None:
        """Return the rows (X, targets) of the argument ``eval_set``."""
        if eval_set is None:
            return None
        pair = eval_set[0] if isinstance(eval_set, list) and len(eval_set) == 1 else eval_set
        if not isinstance(pair, (tuple, list)) or len(pair) != 2:
            raise ValueError(f"eval_set is a {type(eval_set).__name__}; expected (X, y), or a list with one such pair.")
        return pair[0], as_targets(pair[1])

    def _fit_encoder(self, X: Any) -> None:
        self.encoder_ = clone(self.encoder) if self.encoder is not None else ColumnEncoder()
        self.encoder_.fit(X)
        self._take_names()

    def _read_rows(self, X: Any, targets: int, sample_weight: Any, positions: bool) -> tuple[Array, Array | None]:
        """Return the inputs of the nets for rows, and their weights."""
        features = network_inputs(self.encoder_, X, positions)
        if len(features) != targets:
            raise ValueError(f"Found input variables with inconsistent numbers of samples: {[len(features), targets]}")
        if sample_weight is None:
            return features, None
        return features, _check_sample_weight(sample_weight, features, dtype=np.float64)

    def _settings(self) -> Preset:
        given: dict[str, Any] = {
            "n_nets": self.n_nets, "lr": self.learning_rate_init, "alpha": self.alpha, "batch_size": self.batch_size,
            "epochs": self.max_iter, "patience": self.n_iter_no_change,
        }  # fmt: skip
        if self.hidden_layer_sizes is not None:
            given["hidden"] = tuple(np.atleast_1d(self.hidden_layer_sizes).tolist())
        # A given number holds as it is, without the least number of updates.
        if self.max_iter is not None or self.n_iter_no_change is not None:
            given["updates"] = 0
        return replace(PRESETS[self.preset], **{name: value for name, value in given.items() if value is not None})

    def _take_names(self) -> None:
        self.n_features_in_ = self.encoder_.n_features_in_
        if hasattr(self.encoder_, "feature_names_in_"):
            self.feature_names_in_ = self.encoder_.feature_names_in_
        elif hasattr(self, "feature_names_in_"):
            del self.feature_names_in_

    def _measure_held_out(
        self, features: Array, targets: Array, weight: Array | None, held_out: list[Array | None], count: int
    ) -> None:
        """Predict the rows that nets held out, and calibrate by them.

        For training rows, of which there are ``count``, these are the means of the nets that held a row out, NaN where
        no net did; rows of evaluation are held out by all nets.
        """
        self._held_out_predictions = None
        total, counts = None, np.zeros(len(features))
        for number, held in enumerate(held_out):
            if held is None:
                continue
            found = self._predict_encoded(features[held], [number])
            if total is None:
                total = np.zeros((len(features), *found.shape[1:]))
            total[held] += found
            counts[held] += 1
        if total is None:
            return
        with np.errstate(invalid="ignore"):
            total /= counts.reshape(-1, *[1] * (total.ndim - 1))
        known = np.flatnonzero(counts)
        self._calibrate(targets[known], total[known], None if weight is None else weight[known])
        if len(features) == count:
            self._held_out_predictions = total

    def _calibrate(self, targets: Array, found: Array, weight: Array | None) -> None:
        """Fit what is fitted to the predictions of held-out rows."""

    def _scorer(self, features: Array, targets: Array) -> Callable[[Module], float]:
        """Return the score of a net on encoded rows."""
        classes = getattr(self, "classes_", None)
        return as_score(self.scoring, self._decode, features, self._labels(targets), classes)

    def _labels(self, targets: Array) -> Array:
        """Return labels or values of targets as the loss expects them."""
        raise NotImplementedError

    # ------------------------------------------------------------------------------------------- files

    def save(self, path: str | os.PathLike[str], *, preprocessing: dict[str, Any] | None = None) -> None:
        """Save the fitted estimator in a safetensors file with the encoder in its metadata, without pickle.

        The predictions of held-out rows are not saved.

        Parameters
        ----------
        path : path-like
            The file, by convention ``.safetensors``. It is written whole or not at all.
        preprocessing : dict, optional
            Description of the file of the training rows, which the command line uses to read others like it.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        ValueError
            If labels or parameters are of other than plain types.
        OSError
            If the file cannot be written; an existing file is not changed.
        """
        check_is_fitted(self)
        parameters = self.get_params(deep=False)
        if parameters["encoder"] is not None:
            parameters["encoder"] = parameters["encoder"].get_params()
        if not isinstance(parameters["random_state"], Integral):
            parameters["random_state"] = None  # the present state of a generator says nothing about the fit
        entries = {"parameters": parameters, "encoder": self.encoder_.state(), "fitted": self._fitted_state()}
        entries["preprocessing"] = preprocessing
        write_ensemble(path, type(self).__name__, self.nets_, entries)

    @classmethod
    def load(cls: type[_T], path: str | os.PathLike[str]) -> _T:
        """Load an estimator of this class that `save` wrote.

        Parameters
        ----------
        path : path-like
            The file, or a run folder of ``fastmlp train``.

        Returns
        -------
        estimator

        Raises
        ------
        ModelFileError
            If the file is damaged, of a newer format, or not an estimator of this class.
        OSError
            If the file cannot be read.
        """

        def make(entries: dict[str, Any], nets: list[Any]) -> BaseTabular:
            parameters = entries["parameters"]
            if parameters["encoder"] is not None:
                parameters["encoder"] = ColumnEncoder(**parameters["encoder"])
            made = cls(**parameters)
            made.encoder_, made.nets_ = ColumnEncoder.from_state(entries["encoder"]), nets
            made._take_names()
            made._set_fitted_state(entries["fitted"])
            return made

        loaded: _T = read_ensemble(path, cls.__name__, make)
        return loaded

    def _fitted_state(self) -> dict[str, Any]:
        """Return what predictions need besides encoder and nets, JSON-able."""
        return {"n_iter": self.n_iter_}

    def _set_fitted_state(self, state: dict[str, Any]) -> None:
        self.n_iter_ = int(state["n_iter"])
        self._held_out_predictions = None
        self._online = None

    # -------------------------------------------------------------------------------------- prediction

    def _predict_encoded(self, features: Array, numbers: list[int] | None = None) -> Array:
        """Return the mean of the predictions of some nets, float64."""
        predictors = self._predictors()
        chosen = range(len(predictors)) if numbers is None else numbers
        pairs = [(predictors[number](features), self.nets_[number]) for number in chosen]
        total: Array = sum(self._decode(outputs, net) for outputs, net in pairs)  # type: ignore[assignment]
        return total / len(chosen)

    def _decode(self, outputs: Array, net: Module) -> Array:
        """Convert outputs of a net to probabilities or values, float64."""
        raise NotImplementedError

    def _compiled(self, answer: Callable[[Array], Array]) -> CompiledEnsemble:
        """Return a frozen copy that gives the ``answer`` of mean outputs or probabilities."""
        return CompiledEnsemble(self.encoder_, self.nets_, self._make_loss().task == "classification", answer)

    def _encode(self, X: Any) -> Array:
        check_is_fitted(self)
        return network_inputs(self.encoder_, X, reads_positions(self.nets_[0]))

    def _predictors(self) -> list[Predictor]:
        threads = thread_count(self.threads)
        made = self._made
        if made is None or made[0] != threads:
            made = self._made = threads, [Predictor(net, threads=threads) for net in self.nets_]
        return made[1]

    def __getstate__(self) -> dict[str, Any]:
        state = dict(super().__getstate__())
        state.pop("_made", None)  # compiled code
        state["_online"] = None  # its optimizers
        return state

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = tags.input_tags.string = tags.input_tags.categorical = True
        return tags
