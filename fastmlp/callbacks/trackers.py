"""Callbacks that log each evaluation to a tracking service: MLflow, Weights & Biases."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .._common.installed import library
from .base import Callback
from .history import Record

if TYPE_CHECKING:
    from ..training.trainer import Trainer

__all__ = ["MLflow", "WandB"]


def _metrics(record: Record) -> dict[str, float]:
    """Return the numbers of a record that apply, without its step."""
    return {name: value for name, value in record.items() if name != "step" and value is not None}


def _settings(trainer: Trainer) -> dict[str, Any]:
    """Return what describes a fit: model, loss, optimizer and steps."""
    return {
        "model": repr(trainer.model),
        "parameters": trainer.model.num_parameters,
        "loss": repr(trainer.loss),
        "optimizer": repr(trainer.optimizer),
        "planned_steps": trainer.planned_steps,
    }


def _failure(before: BaseException | None) -> BaseException | None:
    """Return the exception that ends the present fit; ``before`` was already handled when it began."""
    now = sys.exc_info()[1]
    return None if now is before else now


class MLflow(Callback):
    """Log the evaluations of each fit to MLflow; needs mlflow (``pip install "fastmlp[mlflow]"``).

    A fit is a run, which ends as FINISHED, FAILED after an exception, or KILLED after Ctrl-C. Its parameters are the
    model, the loss, the optimizer and ``params``.

    Parameters
    ----------
    experiment : str
        Name of the experiment, which is created if it does not exist.
    run_name : str, optional
        Name of the run; MLflow draws one by default.
    params : mapping, optional
        More parameters of the run.
    run_id : str, optional
        A run to go on with, such as ``run_id`` of the callback of a fit that is resumed.
    tracking_uri : str, optional
        Address of the tracking server or store. Default: MLflow's own setting.
    model_file : path-like, optional
        File that is logged as an artifact at the end of the fit, such as that of `SaveModel`, which must then come
        before this callback.

    Attributes
    ----------
    run_id : str or None
        Identifier of the last run.

    Raises
    ------
    BackendError
        If mlflow is not installed.

    Examples
    --------
    >>> import fastmlp as fm
    >>> X, y, X_test, y_test = fm.load("digits")
    >>> trainer = fm.Trainer(fm.MLP(64, [16], 10, rng=0), fm.CrossEntropyLoss(), fm.Adam())
    >>> logger = fm.MLflow("digits", tracking_uri="sqlite:///runs.db")  # doctest: +SKIP
    >>> history = trainer.fit(X, y, epochs=2, callbacks=[logger], rng=0)  # doctest: +SKIP
    """

    may_change_model = False

    def __init__(
        self,
        experiment: str = "fastmlp",
        *,
        run_name: str | None = None,
        params: Mapping[str, Any] | None = None,
        run_id: str | None = None,
        tracking_uri: str | None = None,
        model_file: str | os.PathLike[str] | None = None,
    ) -> None:
        self._module = library("mlflow", 'pip install "fastmlp[mlflow]"')
        self.experiment, self.run_name, self.params = experiment, run_name, dict(params or {})
        self.run_id, self.tracking_uri, self.model_file = run_id, tracking_uri, model_file
        self._client: Any = None
        self._handled: BaseException | None = None

    def on_fit_begin(self, trainer: Trainer) -> None:
        """Begin a run, or go on with it."""
        self._handled = sys.exc_info()[1]
        # A client, since the present run of mlflow's own functions is one for the whole process.
        self._client = self._module.MlflowClient(tracking_uri=self.tracking_uri)
        if self.run_id is not None:
            self._client.update_run(self.run_id, status="RUNNING")
            return
        found = self._client.get_experiment_by_name(self.experiment)
        number = self._client.create_experiment(self.experiment) if found is None else found.experiment_id
        self.run_id = self._client.create_run(number, run_name=self.run_name).info.run_id
        for name, value in {**_settings(trainer), **self.params}.items():
            self._client.log_param(self.run_id, name, value)

    def on_evaluation(self, trainer: Trainer, record: Record) -> None:
        """Log the record."""
        for name, value in _metrics(record).items():
            self._client.log_metric(self.run_id, name, value, step=record["step"])

    def on_fit_end(self, trainer: Trainer) -> None:
        """End the run."""
        if self._client is None:
            return
        failure, client, self._client = _failure(self._handled), self._client, None
        if self.model_file is not None and failure is None:
            client.log_artifact(self.run_id, os.fspath(self.model_file))
        status = "FINISHED" if failure is None else "KILLED" if isinstance(failure, KeyboardInterrupt) else "FAILED"
        client.set_terminated(self.run_id, status)


class WandB(Callback):
    """Log the evaluations of each fit to Weights & Biases; needs wandb (``pip install "fastmlp[wandb]"``).

    A fit is a run, whose exit code is 0, 1 after an exception, or 130 after Ctrl-C. Its configuration is the model, the
    loss, the optimizer and ``params``.

    Parameters
    ----------
    project : str
    params : mapping, optional
        More entries of the configuration.
    model_file : path-like, optional
        File that is saved with the run at the end of the fit, see `MLflow`.
    **options
        Options of ``wandb.init``: ``name``, ``mode="offline"``, ``id`` and ``resume`` to go on with a run, ``dir``.

    Attributes
    ----------
    run_id : str or None
        Identifier of the last run.

    Raises
    ------
    BackendError
        If wandb is not installed.

    Examples
    --------
    >>> import fastmlp as fm
    >>> X, y, X_test, y_test = fm.load("digits")
    >>> trainer = fm.Trainer(fm.MLP(64, [16], 10, rng=0), fm.CrossEntropyLoss(), fm.Adam())
    >>> logger = fm.WandB("digits", mode="offline")  # doctest: +SKIP
    >>> history = trainer.fit(X, y, epochs=2, callbacks=[logger], rng=0)  # doctest: +SKIP
    """

    may_change_model = False

    def __init__(
        self,
        project: str = "fastmlp",
        *,
        params: Mapping[str, Any] | None = None,
        model_file: str | os.PathLike[str] | None = None,
        **options: Any,
    ) -> None:
        self._module = library("wandb", 'pip install "fastmlp[wandb]"')
        self.project, self.params, self.model_file, self.options = project, dict(params or {}), model_file, options
        self.run_id: str | None = None
        self._run: Any = None
        self._handled: BaseException | None = None

    def on_fit_begin(self, trainer: Trainer) -> None:
        """Begin a run."""
        self._handled = sys.exc_info()[1]
        config = {**_settings(trainer), **self.params}
        self._run = self._module.init(project=self.project, config=config, reinit="create_new", **self.options)
        self.run_id = self._run.id

    def on_evaluation(self, trainer: Trainer, record: Record) -> None:
        """Log the record."""
        self._run.log(_metrics(record), step=record["step"])

    def on_fit_end(self, trainer: Trainer) -> None:
        """End the run."""
        if self._run is None:
            return
        failure, run, self._run = _failure(self._handled), self._run, None
        if self.model_file is not None and failure is None:
            path = os.fspath(self.model_file)
            run.save(path, base_path=os.path.dirname(os.path.abspath(path)), policy="now")
        run.finish(exit_code=0 if failure is None else 130 if isinstance(failure, KeyboardInterrupt) else 1)
