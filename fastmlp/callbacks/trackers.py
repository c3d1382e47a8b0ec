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


class _Tracker(Callback):
    """Base class of the callbacks for tracking services.

    Parameters
    ----------
    params : mapping or None
        More settings of a run.
    model_file : path-like or None
        File that is stored at the end of a successful fit.
    """

    may_change_model = False

    def __init__(self, params: Mapping[str, Any] | None, model_file: str | os.PathLike[str] | None) -> None:
        self.params, self.model_file = dict(params or {}), model_file
        self.run_id: str | None = None
        self._handled: BaseException | None = None

    def on_fit_begin(self, trainer: Trainer) -> None:
        """Note the exception that is already handled when the fit begins."""
        self._handled = sys.exc_info()[1]

    def _failure(self) -> BaseException | None:
        """Return the exception that ends the present fit."""
        now = sys.exc_info()[1]
        return None if now is self._handled else now

    def _settings(self, trainer: Trainer) -> dict[str, Any]:
        """Return what describes a fit: model, loss, optimizer and steps, and ``params``."""
        return {
            "model": repr(trainer.model),
            "parameters": trainer.model.num_parameters,
            "loss": repr(trainer.loss),
            "optimizer": repr(trainer.optimizer),
            "planned_steps": trainer.planned_steps,
            **self.params,
        }


class MLflow(_Tracker):
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
        super().__init__(params, model_file)
        self._module = library("mlflow", 'pip install "fastmlp[mlflow]"')
        self.experiment, self.run_name, self.run_id, self.tracking_uri = experiment, run_name, run_id, tracking_uri
        self._client: Any = None

    def on_fit_begin(self, trainer: Trainer) -> None:
        """Begin a run, or go on with it."""
        super().on_fit_begin(trainer)
        # A client, since the present run of mlflow's own functions is one for the whole process.
        self._client = self._module.MlflowClient(tracking_uri=self.tracking_uri)
        if self.run_id is not None:
            self._client.update_run(self.run_id, status="RUNNING")
            return
        found = self._client.get_experiment_by_name(self.experiment)
        number = self._client.create_experiment(self.experiment) if found is None else found.experiment_id
        self.run_id = self._client.create_run(number, run_name=self.run_name).info.run_id
        for name, value in self._settings(trainer).items():
            self._client.log_param(self.run_id, name, value)

    def on_evaluation(self, trainer: Trainer, record: Record) -> None:
        """Log the record."""
        for name, value in _metrics(record).items():
            self._client.log_metric(self.run_id, name, value, step=record["step"])

    def on_fit_end(self, trainer: Trainer) -> None:
        """End the run."""
        if self._client is None:
            return
        failure, client, self._client = self._failure(), self._client, None
        if self.model_file is not None and failure is None:
            client.log_artifact(self.run_id, os.fspath(self.model_file))
        status = "FINISHED" if failure is None else "KILLED" if isinstance(failure, KeyboardInterrupt) else "FAILED"
        client.set_terminated(self.run_id, status)


class WandB(_Tracker):
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

    def __init__(
        self,
        project: str = "fastmlp",
        *,
        params: Mapping[str, Any] | None = None,
        model_file: str | os.PathLike[str] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(params, model_file)
        self._module = library("wandb", 'pip install "fastmlp[wandb]"')
        self.project, self.options = project, options
        self._run: Any = None

    def on_fit_begin(self, trainer: Trainer) -> None:
        """Begin a run."""
        super().on_fit_begin(trainer)
        config = self._settings(trainer)
        self._run = self._module.init(project=self.project, config=config, reinit="create_new", **self.options)
        self.run_id = self._run.id

    def on_evaluation(self, trainer: Trainer, record: Record) -> None:
        """Log the record."""
        self._run.log(_metrics(record), step=record["step"])

    def on_fit_end(self, trainer: Trainer) -> None:
        """End the run."""
        if self._run is None:
            return
        failure, run, self._run = self._failure(), self._run, None
        if self.model_file is not None and failure is None:
            path = os.fspath(self.model_file)
            run.save(path, base_path=os.path.dirname(os.path.abspath(path)), policy="now")
        run.finish(exit_code=0 if failure is None else 130 if isinstance(failure, KeyboardInterrupt) else 1)
