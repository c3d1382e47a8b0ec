"""Common base of TabularClassifier and TabularRegressor: an ensemble of networks on encoded columns."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from numbers import Integral, Real
from typing import Any, TypeVar

import numpy as np
from sklearn.base import BaseEstimator, clone
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import _check_sample_weight, check_is_fitted

from .._common.validation import Array
from ..estimators.stochastic import thread_count
from ..inference.predictor import Predictor
from ..losses import Loss
from ..training.fit_many import fit_many
from .encoder import ColumnEncoder
from .networks import coded_inputs, make_network, network_inputs, reads_positions
from .presets import PRESETS, Preset
from .saving import read_ensemble, write_ensemble
from .training import fit_options, held_out_parts, make_trainer, stop_at

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
        "time_limit": [Interval(Real, 0, None, closed="neither"), None],
        "random_state": ["random_state"],
        "threads": [Interval(Integral, 1, None, closed="left"), None],
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
        encoder: ColumnEncoder | None = None,
        time_limit: float | None = None,
        random_state: Any = None,
        threads: int | None = None,
    ) -> None:
        self.preset, self.n_nets, self.hidden_layer_sizes = preset, n_nets, hidden_layer_sizes
        self.learning_rate_init, self.alpha, self.batch_size = learning_rate_init, alpha, batch_size
        self.max_iter, self.n_iter_no_change, self.validation_fraction = max_iter, n_iter_no_change, validation_fraction
        self.encoder, self.time_limit, self.random_state, self.threads = encoder, time_limit, random_state, threads

    # ------------------------------------------------------------------- methods of the derived classes

    def _make_loss(self) -> Loss:
        raise NotImplementedError

    def _groups(self, targets: Array) -> Array:
        """Return a number for each row; each held-out part has the same share of rows of each number."""
        raise NotImplementedError

    # ----------------------------------------------------------------------------------------- fitting

    def _fit(self, X: Any, targets: Array, outputs: int, sample_weight: Any, callbacks: Any) -> None:
        """Fit encoder and nets to rows and ``targets`` as the loss expects them."""
        began, preset = time.monotonic(), self._settings()
        random_state = check_random_state(self.random_state)
        self.encoder_ = clone(self.encoder) if self.encoder is not None else ColumnEncoder()
        self.encoder_.fit(X)
        self._take_names()
        features = network_inputs(self.encoder_, X, bool(coded_inputs(self.encoder_)))
        if len(features) != len(targets):
            raise ValueError(
                f"Found input variables with inconsistent numbers of samples: {[len(features), len(targets)]}"
            )
        weight = None if sample_weight is None else _check_sample_weight(sample_weight, features, dtype=np.float64)
        held_out = held_out_parts(self._groups(targets), preset.n_nets, self.validation_fraction, random_state)
        seeds = random_state.randint(np.iinfo(np.int32).max, size=preset.n_nets)
        stop = [] if self.time_limit is None else [stop_at(began + self.time_limit)]
        trainers, each = [], []
        for seed, held in zip(seeds.tolist(), held_out, strict=True):
            rows = np.arange(len(targets)) if held is None else np.setdiff1d(np.arange(len(targets)), held)
            model = make_network(self.encoder_, preset.hidden, outputs, seed, preset.dropout)
            trainers.append(make_trainer(preset, model, self._make_loss(), len(rows)))
            each.append({"rng": seed, **fit_options(preset, rows, held, stop)})
            if callbacks is not None:
                each[-1]["callbacks"] += callbacks(len(each) - 1, trainers[-1])
        fit_many(trainers, features, targets, each=each, sample_weight=weight, threads=thread_count(self.threads))
        self.nets_ = [trainer.model for trainer in trainers]
        self.n_iter_ = max(len(trainer.history) for trainer in trainers)
        self._predict_held_out(features, held_out)

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

    def _predict_held_out(self, features: Array, held_out: list[Array | None]) -> None:
        """Set the means of the predictions of the nets that held a row out, NaN where no net did."""
        total, count = None, np.zeros(len(features))
        for number, held in enumerate(held_out):
            if held is None:
                continue
            found = self._predict_encoded(features[held], [number])
            if total is None:
                total = np.zeros((len(features), *found.shape[1:]))
            total[held] += found
            count[held] += 1
        self._held_out_predictions: Array | None = None
        if total is not None:
            with np.errstate(invalid="ignore"):
                self._held_out_predictions = total / count.reshape(-1, *[1] * (total.ndim - 1))

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

    # -------------------------------------------------------------------------------------- prediction

    def _predict_encoded(self, features: Array, numbers: list[int] | None = None) -> Array:
        """Return the mean of the predictions of some nets, float64."""
        predictors = self._predictors()
        chosen = range(len(predictors)) if numbers is None else numbers
        total: Array = sum(self._decode(predictors[number](features)) for number in chosen)  # type: ignore[assignment]
        return total / len(chosen)

    def _decode(self, outputs: Array) -> Array:
        """Convert outputs of a net to probabilities or values, float64."""
        raise NotImplementedError

    def _encode(self, X: Any) -> Array:
        check_is_fitted(self)
        return network_inputs(self.encoder_, X, reads_positions(self.nets_[0]))

    def _predictors(self) -> list[Predictor]:
        threads = thread_count(self.threads)
        made: tuple[int | None, list[Predictor]] | None = self.__dict__.get("_made")
        if made is None or made[0] != threads:
            made = self._made = threads, [Predictor(net, threads=threads) for net in self.nets_]
        return made[1]

    def __getstate__(self) -> dict[str, Any]:
        state = dict(super().__getstate__())
        state.pop("_made", None)  # compiled code
        return state

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = tags.input_tags.string = tags.input_tags.categorical = True
        return tags
