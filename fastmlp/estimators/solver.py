"""Optimizer of an estimator with scikit-learn's learning-rate schedules, and the callback that ends its fit."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from .._common.errors import DivergenceError
from .._common.validation import Array
from ..callbacks.base import Callback
from ..callbacks.history import Record
from ..modules import Module
from ..optim import Optimizer
from ..optim.adam import Adam
from ..optim.schedules import Constant
from ..optim.sgd import SGD
from ..optim.state import OptimizerState

if TYPE_CHECKING:
    from ..training.trainer import Trainer
    from .base import BaseMLP

__all__ = ["FitMonitor", "Solver"]

_SMALLEST_RATE = 1e-6  # at which "adaptive" stops, as in scikit-learn
_PARAMETERS = {
    "sgd": ("learning_rate", "learning_rate_init", "power_t", "momentum", "nesterovs_momentum"),
    "adam": ("learning_rate_init", "beta_1", "beta_2", "epsilon"),
}


class Solver:
    """SGD with a constant, inverse-scaling or adaptive learning rate, or Adam.

    Parameters
    ----------
    estimator : BaseMLP
        Its present parameters define the solver.
    previous : Solver, optional
        Solver whose step count, state and learning rate are taken over as far as they apply to the parameters.

    Attributes
    ----------
    settings : dict
        Parameters of the estimator from which the solver was made.
    learning_rate : float
        Present learning rate.
    """

    def __init__(self, estimator: BaseMLP, previous: Solver | None = None) -> None:
        self.settings = self.settings_of(estimator)
        self.schedule = estimator.learning_rate if estimator.solver == "sgd" else "constant"
        self.first_rate = self.learning_rate = float(estimator.learning_rate_init)
        self.power = float(estimator.power_t)
        self.optimizer: Optimizer
        if estimator.solver == "sgd":
            momentum = float(estimator.momentum)
            self.optimizer = SGD(self.learning_rate, momentum, bool(estimator.nesterovs_momentum and momentum))
        else:
            betas = (float(estimator.beta_1), float(estimator.beta_2))
            self.optimizer = Adam(self.learning_rate, betas, float(estimator.epsilon))
        if previous is not None and previous.settings["solver"] == estimator.solver:
            if (previous.schedule, previous.first_rate) == (self.schedule, self.first_rate):
                self._set(previous.learning_rate)
            if self.optimizer.state_names == previous.optimizer.state_names:
                self.optimizer.load_state_dict(previous.optimizer.state_dict())

    @staticmethod
    def settings_of(estimator: BaseMLP) -> dict[str, Any]:
        """Return the parameters of the estimator that its solver uses."""
        return {name: getattr(estimator, name) for name in ("solver", *_PARAMETERS[estimator.solver])}

    def matches_model(self, model: Module) -> bool:
        """Whether the optimizer's state fits the model's parameters; rename it if layers without parameters changed."""
        params, state = dict(model.named_parameters()), self.optimizer.state
        if state and list(state) != list(params):
            if len(state) != len(params):
                return False
            self.optimizer.state = OptimizerState(dict(zip(params, state.values(), strict=True)))
            state = self.optimizer.state
        return all(array.dtype == model.dtype for kinds in state.values() for array in kinds.values())

    def end_epoch(self, rows_seen: int) -> None:
        """Update an inverse-scaling rate: the first rate / (rows seen + 1)^power_t."""
        if self.schedule == "invscaling":
            self._set(self.first_rate / (rows_seen + 1) ** self.power)

    def should_stop(self) -> bool:
        """Whether to stop for lack of improvement; an adaptive rate is divided by 5 instead until it is 1e-6."""
        if self.schedule != "adaptive" or self.learning_rate <= _SMALLEST_RATE:
            return True
        self._set(self.learning_rate / 5)
        return False

    def _set(self, rate: float) -> None:
        # scikit-learn's velocity contains the learning rate, that of SGD does not: rescale to get the same updates.
        for arrays in self.optimizer.state.values():
            if "velocity" in arrays:
                arrays["velocity"] *= self.learning_rate / rate
        self.learning_rate = rate
        self.optimizer.schedule = Constant(rate)


class FitMonitor(Callback):
    """Callback that sets an estimator's fitted attributes after each epoch and decides when to stop.

    Parameters
    ----------
    estimator : BaseMLP
    solver : Solver
    of_loss : (float, float)
        Scale and constant of ``loss_``, see `BaseMLP._loss`.
    rows : int
        Rows of an epoch.
    batch : int
        Rows of a batch.
    score : callable or None
        ``score()`` returns the score on the held-out rows for early stopping; the model ends with the best weights.
    continued : bool
        Whether the weights that the fit begins with are an earlier fit's: then they may be the best ones.
    no_improvement_count : int
        Epochs without an improvement before this fit.
    name : str
        Beginning of the lines that ``verbose`` prints.

    Attributes
    ----------
    leads : bool
        Whether this process prints them, as rank 0 of a group does.
    """

    every_rank = True  # the attributes of the estimator are those of each rank

    def __init__(
        self,
        estimator: BaseMLP,
        solver: Solver,
        of_loss: tuple[float, float],
        rows: int,
        batch: int,
        score: Callable[[], float] | None,
        continued: bool,
        no_improvement_count: int,
        name: str = "",
    ) -> None:
        self.name, self.leads = name, True
        self.estimator, self.solver, (self.scale, self.constant) = estimator, solver, of_loss
        self.rows, self.batch, self.score, self.continued = rows, batch, score, continued
        self.no_improvement_count, self.converged = no_improvement_count, False
        self.best: dict[str, Array] | None = None
        self._best_step = 0
        # A change of the rate reaches SGD's velocities.
        self.may_change_model = solver.schedule != "constant"

    def on_fit_begin(self, trainer: Trainer) -> None:
        """Score the initial weights of a continued fit, whose held-out rows may differ from the last fit's."""
        if self.score is not None and self.continued:
            self.estimator.best_validation_score_ = -np.inf
            self._track_best(trainer, float(self.score()))

    def on_evaluation(self, trainer: Trainer, record: Record) -> None:
        """Update the attributes of the estimator, and stop if the patience is exhausted."""
        est = self.estimator
        est.loss_ = self.mean_loss(trainer.step_losses, trainer.step_penalties)
        if not math.isfinite(est.loss_):
            raise DivergenceError(f"The loss of iteration {est.n_iter_ + 1} is {est.loss_}.")
        self.end_epoch(trainer, record["val_loss"])

    def mean_loss(self, losses: Any, penalties: Any) -> float:
        """Return the estimator's loss of an epoch from the losses of its batches and the penalties in them."""
        # The penalty counts whole, the rest by the loss's scale: see `BaseMLP._loss`.
        if len(losses) == 1:  # without NumPy, whose calls take longer than a step of few rows
            of_batch = (float(losses[0]) - float(penalties[0])) * self.scale + float(penalties[0]) + self.constant
            return of_batch * self.rows / self.rows
        losses, penalties = np.asarray(losses), np.asarray(penalties)
        sizes = np.full(len(losses), self.batch)
        sizes[-1] = self.rows - self.batch * (len(losses) - 1)
        with np.errstate(over="ignore"):
            return float(((losses - penalties) * self.scale + penalties + self.constant) @ sizes / self.rows)

    def end_epoch(self, trainer: Trainer, val_loss: float | None) -> None:
        """Update the attributes of the estimator after an epoch of loss ``estimator.loss_``."""
        est = self.estimator
        est.n_iter_ += 1
        est.t_ += self.rows
        est.loss_curve_.append(est.loss_)
        if val_loss is not None:
            est.validation_loss_curve_.append(val_loss * self.scale + self.constant)
        if est.verbose:
            self._print(f"Iteration {est.n_iter_}, loss = {est.loss_:.8f}")
        if self.score is not None:
            self._update_by_score(trainer)
        else:
            assert est.best_loss_ is not None
            self.no_improvement_count = self.no_improvement_count + 1 if est.loss_ > est.best_loss_ - est.tol else 0
            est.best_loss_ = min(est.best_loss_, est.loss_)
        self.solver.end_epoch(est.t_)
        if self.no_improvement_count > est.n_iter_no_change:
            if self.solver.should_stop():
                if est.verbose:
                    self._print(f"Stopping: no improvement by tol={est.tol:f} for {est.n_iter_no_change} epochs.")
                trainer.stop()
                self.converged = True
            else:
                if est.verbose:
                    self._print(f"Learning rate is now {self.solver.learning_rate:g}")
                self.no_improvement_count = 0

    def _print(self, line: str) -> None:
        if self.leads:
            print(f"{self.name}{line}\n", end="")  # in one piece, as other nets may print at the same time

    def on_fit_end(self, trainer: Trainer) -> None:
        """Restore the best weights, before the user's callbacks save the model."""
        if self.best is not None and self._best_step != trainer.steps:
            trainer.model.load_state_dict(self.best)
            trainer.restored = self._best_step

    def _update_by_score(self, trainer: Trainer) -> None:
        est = self.estimator
        assert self.score is not None and est.validation_scores_ is not None and est.best_validation_score_ is not None
        score = float(self.score())
        est.validation_scores_.append(score)
        if est.verbose:
            self._print(f"Validation score: {score:f}")
        better = score >= est.best_validation_score_ + est.tol  # NaN is not
        self.no_improvement_count = 0 if better else self.no_improvement_count + 1
        self._track_best(trainer, score)

    def _track_best(self, trainer: Trainer, score: float) -> None:
        """Store the weights if their score is the best."""
        est = self.estimator
        if est.best_validation_score_ is not None and score > est.best_validation_score_:
            est.best_validation_score_ = score
            self.best, self._best_step = trainer.model.state_dict(), trainer.steps
