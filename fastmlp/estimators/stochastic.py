"""StochasticMLP: fits of the estimators by the solvers "sgd" and "adam", with `Trainer`, of one net or of several."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Sequence
from numbers import Integral
from typing import Any, NamedTuple

import numpy as np
from scipy import sparse
from sklearn.base import is_classifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split

from .._common.errors import DivergenceError
from .._common.validation import Array
from ..callbacks.base import as_callbacks
from ..callbacks.progress import ProgressBar
from ..losses import Loss
from ..training.batches import RowSubset
from ..training.fit_many import fit_many
from ..training.trainer import Trainer
from .network import Network
from .online import OnlineMLP
from .solver import FitMonitor, Solver

__all__ = ["NOT_FINITE", "StochasticMLP", "as_rows", "thread_count"]

NOT_FINITE = (
    "Solver produced non-finite parameter weights. The input data may contain large values and need to be preprocessed."
)


class _PreparedFit(NamedTuple):
    """Fit of one net, whose attributes are those of before the first epoch.

    Attributes
    ----------
    rows : ndarray or None
        Numbers of the training rows, None for all.
    batch : int
        Rows of a batch.
    options : dict
        Further options of `Trainer.fit`.
    score : callable or None
        See `FitMonitor`.
    """

    trainer: Trainer
    network: Network
    rows: Array | None
    batch: int
    options: dict[str, Any]
    monitor: FitMonitor
    score: Callable[[], float] | None


class StochasticMLP(OnlineMLP):
    """Base class of `BaseMLP` with the solvers that train in batches."""

    _place: tuple[Any, ...] | None  # see `BaseMLP._training_position`
    _seeded_by: Any  # the random_state from which the trainer's seed was drawn
    other_nets_: list[Any]  # exists with n_nets above 1 only
    _loss_scale = 1.0
    _loss_constant = 0.0

    def _loss(self) -> Loss:
        """Return the training loss; ``loss_`` is ``_loss_scale`` times its value plus ``_loss_constant``."""
        raise NotImplementedError

    def _targets(self, Y: Array) -> Array:
        """Convert ``Y (N, O)`` to the form that the loss expects."""
        raise NotImplementedError

    def _decode_targets(self, Y: Array) -> Array:
        """Convert encoded targets back to the user's labels or values."""
        return Y

    def _labels(self) -> list[Any] | None:
        """Return the labels that the model has as ``classes``."""
        return None

    def _sync_network(self) -> Network:
        """Return the network with the present parameters and weights."""
        raise NotImplementedError

    def _expose_weights(self, network: Network) -> None:
        """Set ``coefs_`` and ``intercepts_`` to the views of the network."""
        raise NotImplementedError

    def _scorer(self, held_out: tuple[Any, Array, Array | None]) -> Callable[[], float]:
        """Return a function that computes the score of the held-out rows for early stopping."""
        raise NotImplementedError

    # ----------------------------------------------------------------------------------------- fitting

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
        random_states: Sequence[np.random.RandomState],
        incremental: bool,
        held_out: tuple[Any, Array, Array | None] | None,
        continued: bool,
        ranks: dict[str, Any],
    ) -> None:
        """Fit this net, and those of ``other_nets_`` at the same time; ``ranks`` has options of `Trainer.fit`."""
        features, targets, validation = as_rows(X), self._targets(Y), None
        if held_out is not None:
            validation = as_rows(held_out[0]), self._targets(held_out[1]), held_out[2]
        nets: list[StochasticMLP] = [self, *self.__dict__.get("other_nets_", ())]
        fits = []
        for number, (net, state) in enumerate(zip(nets, random_states, strict=True)):
            name = f"Net {number}: " if len(nets) > 1 else ""
            fits.append(
                net._prepare_fit(features, Y, weight, state, incremental, held_out, validation, continued, name)
            )
            fits[-1].monitor.leads = ranks.get("group") is None or ranks["group"].rank == 0
        if self.batch_size != "auto" and self.batch_size > fits[0].batch:
            warnings.warn(
                f"batch_size is {self.batch_size}, the training set has {fits[0].batch} rows: they make one batch.",
                stacklevel=4,
            )
        options = {
            "batch_size": fits[0].batch,
            "epochs": 1 if incremental else int(self.max_iter),
            "sample_weight": weight,
            "threads": self._thread_count(),
            "shuffle": self.shuffle,
            "augment": self.augment,
            **ranks,
        }
        interrupted = False
        errors: list[DivergenceError | None] = [None] * len(fits)
        try:
            if len(fits) == 1:
                errors = [_fit_one(fits[0], features, targets, options)]
            else:
                errors = _fit_several(fits, features, targets, options)
        except KeyboardInterrupt:
            interrupted = True
            warnings.warn("Training interrupted by user.", stacklevel=4)
        finally:
            for net, fit in zip(nets, fits, strict=True):
                net._no_improvement_count = fit.monitor.no_improvement_count
        for fit, error in zip(fits, errors, strict=True):
            if error is not None:
                _report_divergence(fit, error)
        late = sum(
            error is None and net.n_iter_ == net.max_iter and not fit.monitor.converged
            for net, fit, error in zip(nets, fits, errors, strict=True)
        )
        if late and not incremental and not interrupted:
            share = f" for {late} of {len(nets)} nets" if len(nets) > 1 else ""
            warnings.warn(
                f"Maximum iterations ({self.max_iter}) reached and the optimization hasn't converged yet{share}.",
                ConvergenceWarning,
                stacklevel=4,
            )
        for net, fit in zip(nets, fits, strict=True):
            net._take_result(fit)
        if interrupted and len(nets) > 1:
            self._drop_untrained()

    def _prepare_fit(
        self,
        features: Any,
        Y: Array,
        weight: Array | None,
        random_state: np.random.RandomState,
        incremental: bool,
        held_out: tuple[Any, Array, Array | None] | None,
        validation: tuple[Any, Array, Array | None] | None,
        continued: bool,
        name: str,
    ) -> _PreparedFit:
        """Prepare the fit of this net, which lines of ``verbose`` call ``name``."""
        self._init_curves()
        chosen = None
        if self.early_stopping and held_out is None:
            chosen, held_out = self._split(features, Y, weight, random_state)
            Y, weight = Y[chosen], None if weight is None else weight[chosen]
            if self.scoring == "loss":
                validation = held_out[0], self._targets(held_out[1]), held_out[2]
        rows = len(Y)
        batch = min(200 if self.batch_size == "auto" else int(self.batch_size), rows)
        self._set_loss_constant(Y, weight)
        network = self._sync_network()
        trainer = self._prepare_trainer(network, incremental)
        seed = None
        if trainer.seed is None or not _same(self.random_state, self._seeded_by):
            seed, self._seeded_by = int(random_state.randint(np.iinfo(np.int32).max)), self.random_state
        used = rows if weight is None else int(np.count_nonzero(weight))
        score = self._scorer(held_out) if self.early_stopping and held_out is not None else None
        of_loss = self._loss_scale, self._loss_constant
        assert self._optimizer is not None
        monitor = FitMonitor(
            self, self._optimizer, of_loss, used, min(batch, used), score, continued, self._no_improvement_count,
            name=name,
        )  # fmt: skip
        self.n_iter_ = 0
        listeners = [monitor, *as_callbacks(self.callbacks), *([ProgressBar()] if self.progress_bar else ())]
        options = {"validation": validation, "callbacks": listeners, "rng": seed}
        return _PreparedFit(trainer, network, chosen, batch, options, monitor, score)

    def _take_result(self, fit: _PreparedFit) -> None:
        """Set the attributes of a net after its fit."""
        if fit.score is not None and fit.monitor.best is None and self.validation_scores_:
            self.best_validation_score_ = float("nan")
            warnings.warn(
                "No validation score is a number: the weights are the last ones, not the best ones.",
                ConvergenceWarning,
                stacklevel=5,
            )
        fit.network.refresh()
        self._expose_weights(fit.network)
        self._rest = fit.network.other_arrays()

    def _drop_untrained(self) -> None:
        """Remove the other nets that an interrupted fit left without an epoch."""
        trained = [net for net in self.other_nets_ if net.t_]
        if len(trained) < len(self.other_nets_):
            count = len(self.other_nets_) - len(trained)
            noun = "net" if count == 1 else "nets"
            warnings.warn(f"{count} {noun} without a whole epoch: left out of the predictions.", stacklevel=5)
            self.other_nets_ = trained

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

    def _thread_count(self) -> int | None:
        return thread_count(self.threads)


def thread_count(threads: int | None) -> int | None:
    """Return the given number of threads; without one, 1 in a worker thread of joblib or dask, else None (default)."""
    if threads is not None or threading.current_thread() is threading.main_thread():
        return None if threads is None else int(threads)
    from joblib.parallel import get_active_backend

    return 1 if (get_active_backend()[0].nesting_level or 0) > 0 else None


def _same(one: Any, other: Any) -> bool:
    """Whether two values of ``random_state`` are the same object or equal integers."""
    return one is other or (isinstance(one, Integral) and isinstance(other, Integral) and one == other)


def _fit_one(fit: _PreparedFit, features: Any, targets: Array, options: dict[str, Any]) -> DivergenceError | None:
    rows = features if fit.rows is None else RowSubset(features, fit.rows)
    try:
        fit.trainer.fit(rows, targets, **options, **fit.options)
    except DivergenceError as error:
        return error
    return None


def _fit_several(
    fits: Sequence[_PreparedFit], features: Any, targets: Array, options: dict[str, Any]
) -> list[DivergenceError | None]:
    each = [{**fit.options, "rows": fit.rows} for fit in fits]
    trainers = [fit.trainer for fit in fits]
    results = fit_many(trainers, features, targets, **options, each=each, return_errors=True)
    for result in results:
        if isinstance(result, Exception) and not isinstance(result, DivergenceError):
            raise result
    return [result if isinstance(result, DivergenceError) else None for result in results]


def _report_divergence(fit: _PreparedFit, error: DivergenceError) -> None:
    """Raise the error of a fit without early stopping; with it the best weights are kept, and a warning is enough."""
    if fit.score is None:
        raise ValueError(f"{NOT_FINITE} {error}") from error
    assert fit.monitor.estimator.validation_scores_ is not None
    fit.monitor.estimator.validation_scores_.append(float("nan"))
    kept = "" if fit.monitor.best is None else " The best weights are kept."
    warnings.warn(f"{error}{kept}", ConvergenceWarning, stacklevel=5)


def as_rows(X: Any) -> Any:
    """Convert a sparse matrix to CSR format; return other values unchanged."""
    return sparse.csr_array(X) if sparse.issparse(X) else X
