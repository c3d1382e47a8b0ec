"""Callbacks for MLflow and Weights & Biases: what their stores hold after a fit, an error and an interruption."""

import json
import sys

import numpy as np
import pytest

import fastmlp as fm

X = np.random.default_rng(0).normal(size=(60, 4))
Y = (X[:, 0] > 0).astype(int)


def fit(logger, *more, **options):
    trainer = fm.Trainer(fm.MLP(4, [5], 2, rng=0), fm.CrossEntropyLoss(), fm.Adam(0.01))
    trainer.fit(X, Y, validation=(X, Y), batch_size=20, epochs=3, callbacks=[logger, *more], rng=0, **options)
    return trainer


class Fail:
    def __init__(self, error):
        self.error = error

    def on_evaluation(self, trainer, record):
        if record["epoch"] == 2:
            raise self.error


@pytest.fixture
def store(tmp_path, monkeypatch):
    pytest.importorskip("sqlalchemy", reason="mlflow's store")
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.chdir(tmp_path)
    address = f"sqlite:///{tmp_path}/runs.db"
    return address, mlflow.MlflowClient(tracking_uri=address)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_mlflow(store, tmp_path):
    address, client = store
    saving = fm.SaveModel(tmp_path / "model.safetensors")
    logger = fm.MLflow("one", run_name="first", params={"fold": 3}, tracking_uri=address, model_file=saving.path)
    trainer = fm.Trainer(fm.MLP(4, [5], 2, rng=0), fm.CrossEntropyLoss(), fm.Adam(0.01))
    trainer.fit(X, Y, validation=(X, Y), batch_size=20, epochs=3, callbacks=[saving, logger], rng=0)
    run = client.get_run(logger.run_id)
    assert run.info.status == "FINISHED" and run.info.run_name == "first"
    assert run.data.params["fold"] == "3" and run.data.params["optimizer"].startswith("Adam(")
    found = client.get_metric_history(logger.run_id, "val_loss")
    assert [(metric.step, metric.value) for metric in found] == [
        (record["step"], record["val_loss"]) for record in trainer.history
    ]
    assert [one.path for one in client.list_artifacts(logger.run_id)] == ["model.safetensors"]
    fit(logger)  # goes on with the run
    assert len(client.get_metric_history(logger.run_id, "val_loss")) == 6


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("error", "status"), [(ZeroDivisionError, "FAILED"), (KeyboardInterrupt, "KILLED")])
def test_mlflow_after_an_error(store, error, status):
    address, client = store
    logger = fm.MLflow(tracking_uri=address)
    with pytest.raises(error):
        fit(logger, Fail(error()))
    assert client.get_run(logger.run_id).info.status == status


class Run:
    """Stand-in for a run of wandb, with the calls that it got."""

    def __init__(self, **options):
        self.options, self.id, self.logged, self.saved, self.exit_code = options, "abc", [], [], None

    def log(self, metrics, step):
        self.logged.append((step, metrics))

    def save(self, path, base_path, policy):
        self.saved.append((path, base_path, policy))

    def finish(self, exit_code):
        self.exit_code = exit_code


@pytest.fixture
def runs(monkeypatch):
    made = []

    class Module:
        @staticmethod
        def init(**options):
            made.append(Run(**options))
            return made[-1]

    monkeypatch.setitem(sys.modules, "wandb", Module)
    monkeypatch.setattr("fastmlp.callbacks.trackers.library", lambda name, remedy: Module)
    return made


def test_calls_of_wandb(runs, tmp_path):
    logger = fm.WandB("p", params={"fold": 1}, model_file=tmp_path / "m.safetensors", mode="offline")
    trainer = fit(logger)
    (run,) = runs
    assert run.options["project"] == "p" and run.options["mode"] == "offline" and run.options["config"]["fold"] == 1
    assert run.options["config"]["planned_steps"] == 9 and logger.run_id == "abc"
    assert [step for step, _ in run.logged] == [record["step"] for record in trainer.history] == [3, 6, 9]
    assert run.logged[0][1]["val_loss"] == trainer.history[0]["val_loss"] and "step" not in run.logged[0][1]
    assert run.saved == [(str(tmp_path / "m.safetensors"), str(tmp_path), "now")] and run.exit_code == 0


@pytest.mark.parametrize(("error", "code"), [(ZeroDivisionError, 1), (KeyboardInterrupt, 130)])
def test_exit_codes_of_wandb(runs, error, code):
    with pytest.raises(error):
        fit(fm.WandB(model_file="never"), Fail(error()))
    assert runs[0].exit_code == code and not runs[0].saved


def test_a_fit_while_an_exception_is_handled_succeeds(runs):
    try:
        raise ValueError("the first try")
    except ValueError:
        fit(fm.WandB())
        with pytest.raises(ZeroDivisionError):
            fit(fm.WandB(), Fail(ZeroDivisionError()))
    assert [run.exit_code for run in runs] == [0, 1]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_wandb_offline(tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("WANDB_MODE", "offline")
    logger = fm.WandB("p", dir=str(tmp_path), mode="offline")
    fit(logger)
    assert list(tmp_path.glob(f"wandb/offline-run-*-{logger.run_id}/run-{logger.run_id}.wandb"))
    assert json.dumps(logger.params) == "{}"


@pytest.mark.parametrize(("name", "package"), [("MLflow", "mlflow"), ("WandB", "wandb")])
def test_without_the_package(name, package, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(fm.BackendError, match=rf'{package}.*pip install "fastmlp\[{package}\]"'):
        getattr(fm, name)()
