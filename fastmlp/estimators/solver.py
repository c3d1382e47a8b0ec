"""Solver: the optimizer of an estimator's fit, and what happens to its learning rate; Progress: what ends the fit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..callbacks import Callback
from ..history import Record
from ..optim import SGD, Adam, Optimizer
from ..schedules import Constant
from ..validation import Array

if TYPE_CHECKING:
    from ..trainer import Trainer
    from .base import BaseMLP

__all__ = ["Progress", "Solver"]

_SMALLEST_RATE = 1e-6  # at which "adaptive" gives up, as scikit-learn's


class Solver:
    """SGD with a rate that is constant, inverse scaling or adaptive; or Adam.

    Attributes
    ----------
    learning_rate : float
        The present one.
    """

    def __init__(self, estimator: BaseMLP) -> None:
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

    def epoch_ends(self, rows_seen: int) -> None:
        """Inverse scaling: the first rate / (rows seen + 1)^power_t."""
        if self.schedule == "invscaling":
            self._set(self.first_rate / (rows_seen + 1) ** self.power)

    def stops(self) -> bool:
        """No improvement: whether to stop, or, adaptive, to go on with a fifth of the rate."""
        if self.schedule != "adaptive" or self.learning_rate <= _SMALLEST_RATE:
            return True
        self._set(self.learning_rate / 5)
        return False

    def _set(self, rate: float) -> None:
        # scikit-learn's velocity holds the rate that was: ours does not, so it is what that comes to at the new one.
        for arrays in self.optimizer.state.values():
            if "velocity" in arrays:
                arrays["velocity"] *= self.learning_rate / rate
        self.learning_rate = rate
        self.optimizer.schedule = Constant(rate)


class Progress(Callback):
    """An estimator's fitted attributes, epoch by epoch, and when to stop.

    Parameters
    ----------
    estimator : BaseMLP
    rows : int
        Of an epoch that are trained on.
    batch : int
    score : callable or None
        Gives the score on the held-out rows; early stopping goes by it.
    """

    def __init__(self, estimator: BaseMLP, rows: int, batch: int, score: Any) -> None:
        self.estimator, self.rows, self.batch, self.score = estimator, rows, batch, score
        self.best: dict[str, Array] | None = None
        # A change of the rate reaches SGD's velocities.
        self.may_change_model = estimator._optimizer.schedule != "constant"

    def on_evaluation(self, trainer: Trainer, record: Record) -> None:
        """Note the epoch, and stop where it is time."""
        est = self.estimator
        losses, penalties = trainer.step_losses, trainer.step_penalties
        sizes = np.full(len(losses), self.batch)
        sizes[-1] = self.rows - self.batch * (len(losses) - 1)
        # The penalty counts whole, the rest by `_loss_scale`: see `BaseMLP._loss`.
        of_batches = (losses - penalties) * est._loss_scale + penalties + est._loss_constant
        est.loss_ = float(of_batches @ sizes / self.rows)
        est.n_iter_ += 1
        est.t_ += self.rows
        est.loss_curve_.append(est.loss_)
        if record["val_loss"] is not None:
            est.validation_loss_curve_.append(record["val_loss"] * est._loss_scale + est._loss_constant)
        if est.verbose:
            print(f"Iteration {est.n_iter_}, loss = {est.loss_:.8f}")
        if self.score is not None:
            self._by_score(trainer)
        else:
            best = np.inf if est.best_loss_ is None else est.best_loss_
            est._no_improvement_count = est._no_improvement_count + 1 if est.loss_ > best - est.tol else 0
            est.best_loss_ = min(best, est.loss_)
        est._optimizer.epoch_ends(est.t_)
        if est._no_improvement_count > est.n_iter_no_change:
            if est._optimizer.stops():
                if est.verbose:
                    print(f"Stopping: no improvement by tol={est.tol:f} for {est.n_iter_no_change} epochs.")
                trainer.stop()
                est._converged = True
            else:
                if est.verbose:
                    print(f"Learning rate is now {est._optimizer.learning_rate:g}")
                est._no_improvement_count = 0

    def _by_score(self, trainer: Trainer) -> None:
        est = self.estimator
        score = float(self.score())
        assert est.validation_scores_ is not None and est.best_validation_score_ is not None
        est.validation_scores_.append(score)
        if est.verbose:
            print(f"Validation score: {score:f}")
        est._no_improvement_count = est._no_improvement_count + 1 if score < est.best_validation_score_ + est.tol else 0
        if score > est.best_validation_score_:
            est.best_validation_score_ = score
            self.best = trainer.model.state_dict()
