"""`fastmlp train`: training, printed output and files."""

from __future__ import annotations

import json
import re
import warnings
from functools import partial

import numpy as np
import pytest

import fastmlp as fm
from fastmlp.modules.saving import model_info
from fastmlp.optim import optimizer_types
from fastmlp.training import row_order

KEYS = ["step", "epoch", "train_loss", "val_loss", "val_accuracy", "lr", "seconds"]
FILES = {"training.safetensors", "model.safetensors", "config.json", "metrics.jsonl", "curves.png"}


def config_of(folder):
    return json.loads((folder / "config.json").read_text())


def metrics_of(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_the_main_job(fastmlp, folder):
    pytest.importorskip("matplotlib")
    fastmlp("train", "--steps", 1, "--out", "warm")  # kernels are compiled once a machine
    code, out, err = fastmlp("train")
    assert code == 0 and err == ""
    (run,) = (folder / "runs").iterdir()
    assert re.fullmatch(r"digits-\d{8}-\d{6}", run.name)
    assert {path.name for path in run.iterdir()} == FILES
    for text in ("1,437 training and 360 test rows", "64-100-10 relu", "7,510 parameters", "adam, lr 0.001"):
        assert text in out
    metrics = metrics_of(run)
    assert [list(record) for record in metrics] == [KEYS] * 20
    assert metrics[-1]["val_accuracy"] >= 0.96 and metrics[-1]["seconds"] < 10
    assert metrics[-1]["step"] == 900 and metrics[-1]["epoch"] == 20.0
    table = [line.split() for line in out.splitlines() if re.match(r" +\d+ ", line)]
    assert len(table) == 20 and table[-1][:2] == ["900", "20.00"]
    assert float(table[-1][4]) == pytest.approx(metrics[-1]["val_accuracy"], abs=1e-4)
    assert "done: test loss" in out and "curves.png" in out.splitlines()[-1]

    X, y, X_test, y_test = fm.load("digits")
    model = fm.load_model(run / "model.safetensors")
    trainer = fm.Trainer(model, fm.CrossEntropyLoss(), fm.SGD())
    assert trainer.evaluate(X_test, y_test)["accuracy"] == metrics[-1]["val_accuracy"]
    assert model.task == "classification" and model.classes == list("0123456789")
    config = config_of(run)
    assert config["options"]["seed"] == 42 and config["options"]["lr"] == 1e-3
    assert config["data"]["dataset"] == "digits" and len(config["dataset"]["sha256"]) == 64
    assert config["versions"]["fastmlp"] == fm.__version__ and "numpy" in config["versions"]


def test_the_picture(fastmlp, folder):
    pytest.importorskip("matplotlib")
    fastmlp("train", "--epochs", 3, "--out", "run")
    data = (folder / "run" / "curves.png").read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = (int.from_bytes(data[at : at + 4], "big") for at in (16, 20))
    assert 1000 <= width <= 3000 and 500 <= height <= 2000 and len(data) > 10_000


@pytest.mark.slow
def test_the_same_seed_gives_the_same_model(fastmlp, folder):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        assert fastmlp("train", "--steps", 20, "--seed", seed, "--out", name)[0] == 0
    a, b, c = ((folder / name / "model.safetensors").read_bytes() for name in "abc")
    assert a == b != c


def test_every_option_arrives(fastmlp, folder):
    code, _, err = fastmlp(
        "train", "--hidden", "20,10", "--activation", "gelu", "--optimizer", "sgd", "--lr", "0.05",
        "--momentum", "0.9", "--weight-decay", "1e-4", "--steps", 30, "--batch-size", 50, "--eval-every", 20,
        "--init", "he", "--normalize", "unit", "--seed", 7, "--backend", "numpy", "--threads", 2,
        "--dtype", "float64", "--early-stopping", 9, "--dropout", "0.25", "--layer-norm",
        "--noise", "0.1", "--mixup", "0.3", "--flip", "--average", "0.5", "--accumulate", 2, "--shuffle", "windows",
        "--pieces", 2, "--out", "run", "--no-progress",
    )  # fmt: skip
    assert (code, err) == (0, "")
    config = config_of(folder / "run")
    assert config["options"] == {
        "hidden": [20, 10], "activation": "gelu", "optimizer": "sgd", "lr": 0.05, "momentum": 0.9,
        "weight_decay": 1e-4, "steps": 30, "epochs": None, "batch_size": 50, "eval_every": 20, "init": "he",
        "normalize": "unit", "seed": 7, "backend": "numpy", "threads": 2, "dtype": "float64", "early_stopping": 9,
        "dropout": 0.25, "layer_norm": True, "schedule": "constant", "tensorboard": False, "noise": 0.1, "mixup": 0.3,
        "flip": True, "average": 0.5, "accumulate": 2, "precision": "float32",
        "shuffle": "windows", "pieces": 2,
    }  # fmt: skip
    assert config["optimizer"]["type"] == "SGD" and config["optimizer"]["momentum"] == 0.9
    assert [record["step"] for record in metrics_of(folder / "run")] == [20, 30]
    model = fm.load_model(folder / "run" / "model.safetensors")
    assert [type(m).__name__ for m in model] == ["Normalize"] + ["Linear", "LayerNorm", "GELU", "Dropout"] * 2 + [
        "Linear"
    ]
    assert model.dtype == np.float64 and np.all(model[0].buffers["scale"] == 16)


def test_precisions_that_are_not_there(fastmlp, folder):
    code, out, err = fastmlp("train", "--precision", "tf32", "--backend", "numba")
    assert (code, out) == (1, "") and "'tf32' needs the backend 'cuda'; this is 'numba'" in err
    code, out, err = fastmlp("train", "--precision", "bf16", "--dtype", "float64")
    assert (code, out) == (2, "") and "--precision bf16 applies to float32 models" in err
    assert not (folder / "runs").exists()


def test_other_spellings_of_options(fastmlp, folder):
    code, _, _ = fastmlp(
        "train", "--dnn_hidden_units", 12, "--learning_rate", "1e-2", "--max_steps", 10, "--batch_size", 20,
        "--eval_freq", 5, "--data_dir", "data", "--out", "run",
    )  # fmt: skip
    options = config_of(folder / "run")["options"]
    assert code == 0 and options["hidden"] == [12] and options["lr"] == 0.01 and options["batch_size"] == 20
    assert [record["step"] for record in metrics_of(folder / "run")] == [5, 10]
    assert config_of(folder / "run")["data"]["data_dir"] == str(folder / "data")


@pytest.mark.slow
@pytest.mark.parametrize("way", ["none", "mean-image", "standard"])
def test_normalisation_and_no_hidden_layer(way, fastmlp, folder):
    assert fastmlp("train", "--hidden", "", "--epochs", 1, "--normalize", way, "--out", "run")[0] == 0
    model = fm.load_model(folder / "run" / "model.safetensors")
    assert len(model) == (1 if way == "none" else 2) and model[-1].in_width == 64


@pytest.mark.slow
@pytest.mark.parametrize("name", optimizer_types())
def test_every_optimizer_learns_by_default(name, fastmlp, folder):
    assert fastmlp("train", "--optimizer", name, "--epochs", 5, "--out", "run", "--quiet")[0] == 0
    assert metrics_of(folder / "run")[-1]["val_accuracy"] > 0.8


@pytest.mark.slow
def test_defaults_follow_the_data_set(fastmlp, monkeypatch, folder):
    """CIFAR-10 has those of the CIFAR-10 experiment, but several hidden layers do not start from its tiny weights."""
    from fastmlp.cli import train
    from fastmlp.cli.defaults import defaults_for

    digits = fm.load("digits")
    monkeypatch.setattr(train, "run", partial(train.run, hooks=train.Hooks(lambda options, dtype: digits)))
    fastmlp("train", "--dataset", "cifar10", "--out", "one", "--max_steps", 1)
    fastmlp("train", "--dataset", "cifar10", "--out", "three", "--steps", 1, "--hidden", "50,40,50")
    fastmlp("train", "--dataset", "cifar10", "--out", "own", "--steps", 1, "--hidden", "9,9", "--init", "normal")
    experiment = {
        "hidden": [100], "activation": "elu", "optimizer": "sgd", "lr": 1e-3, "batch_size": 200,
        "eval_every": 100, "normalize": "mean-image", "init": "normal",
    }  # fmt: skip
    options = config_of(folder / "one")["options"]
    assert {key: options[key] for key in experiment} == experiment
    assert config_of(folder / "three")["options"]["init"] == "default"
    assert config_of(folder / "own")["options"]["init"] == "normal"
    assert defaults_for(digits, "cifar10").steps == 1400
    mnist = defaults_for(digits, "mnist")
    assert (mnist.hidden, mnist.optimizer, mnist.batch_size, mnist.epochs) == ((512, 512), "adam", 128, 10)


def test_the_order_of_the_rows(fastmlp, folder, monkeypatch):
    monkeypatch.setattr(row_order, "BLOCK_NUMBERS", 64 * 4)
    losses = {}
    for shuffle, heading in (
        ("full", None), ("windows", "order      windows of 64 blocks of 4 rows"), ("none", "order      not shuffled")
    ):  # fmt: skip
        code, out, err = fastmlp("train", "--epochs", 1, "--shuffle", shuffle, "--out", shuffle)
        assert (code, err) == (0, "") and config_of(folder / shuffle)["options"]["shuffle"] == shuffle
        assert (heading in out.splitlines()) if heading else ("order  " not in out)
        losses[shuffle] = metrics_of(folder / shuffle)[-1]["train_loss"]
    assert len(set(losses.values())) == 3
    assert fastmlp("train", "--epochs", 1, "--out", "default", "--quiet")[0] == 0
    assert metrics_of(folder / "default")[-1]["train_loss"] == losses["full"]
    code, _, err = fastmlp("train", "--shuffle", "some")
    assert code == 2 and "--shuffle: invalid choice: 'some'" in err


def test_quiet(fastmlp, folder):
    assert fastmlp("train", "--quiet", "--epochs", 1, "--out", "run") == (0, "", "")
    assert {path.name for path in (folder / "run").iterdir()} >= FILES - {"curves.png"}


@pytest.mark.slow
def test_a_progress_bar_on_a_terminal(fastmlp, monkeypatch, capsys):
    import sys

    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    code, out, err = fastmlp("train", "--epochs", 2, "--out", "run")
    assert code == 0 and "step/s" in err and "90/90" not in out
    assert "    90    2.00" in out
    assert "step/s" not in fastmlp("train", "--epochs", 1, "--out", "other", "--no-progress")[2]


@pytest.mark.slow
def test_augmented_and_averaged(fastmlp, folder):
    options = ("--noise", 0.2, "--mixup", 0.2, "--flip", "--average", 0.9, "--epochs", 3, "--out", "run")
    code, out, err = fastmlp("train", *options)
    assert (code, err) == (0, "") and "augment    flip, mixup 0.2, noise 0.2" in out
    assert "average.safetensors: test loss" in out.splitlines()[-2] and out.splitlines()[-1].endswith(
        "average.safetensors"
    )
    model, average = (fm.load_model(folder / "run" / f"{name}.safetensors") for name in ("model", "average"))
    assert any(
        (a != b).any() for (_, a), (_, b) in zip(model.named_parameters(), average.named_parameters(), strict=True)
    )
    seen = fastmlp("evaluate", "run/average.safetensors")[1].split()[-1]
    assert float(seen) > 0.8 and f"test accuracy {float(seen):.4f}" in out.splitlines()[-2]
    ref = [path.read_bytes() for path in sorted((folder / "run").glob("*[el].safetensors"))]
    assert len(ref) == 2 and fastmlp("train", "--resume", "run", "--quiet")[0] == 0
    assert [path.read_bytes() for path in sorted((folder / "run").glob("*[el].safetensors"))] == ref
    assert fastmlp("train", "--epochs", 1, "--out", "run", "--force", "--quiet")[0] == 0
    assert not (folder / "run" / "average.safetensors").exists()


def test_flips_are_for_images(fastmlp, table):
    code, out, err = fastmlp("train", "--plain", "--dataset", table, "--flip", "--out", "run")
    assert code == 2 and err.endswith("error: --flip applies to images only; the rows of t.csv are not images.\n")


def test_images_with_their_channels_last():
    from types import SimpleNamespace

    from fastmlp.cli.train_parts import augmentations

    options = {"flip": True, "mixup": None, "noise": None}
    for shape, axis in (((3, 32, 32), 2), ((1, 28, 28), 2), ((28, 28, 1), 1), ((32, 30, 3), 1), ((3, 30, 4), 2),
                        ((16, 8, 8), 2), ((8, 8, 16), 1), ((8, 8, 8), 2)):  # fmt: skip
        (flip,) = augmentations(options, SimpleNamespace(image_shape=shape))
        assert flip.axis == axis and flip.shape == shape


def test_a_table_of_classes(fastmlp, table, folder):
    code, out, err = fastmlp(
        "train", "--plain", "--dataset", table, "--target", "label", "--epochs", 40, "--out", "run"
    )
    assert (code, err) == (0, "") and "2 classes" in out
    info = model_info(folder / "run" / "model.safetensors")
    assert info["classes"] == ["no", "yes"] and info["preprocessing"]["target"] == "label"
    assert metrics_of(folder / "run")[-1]["val_accuracy"] > 0.9


def test_the_heading_tells_what_became_of_columns(fastmlp, folder):
    """A mistyped number would make many features of one, in silence."""
    pytest.importorskip("pandas")
    rows = [f"{20 + i % 60},{'' if i == 9 else i},{'ab'[i % 2]},{i * 0.37:.2f}" for i in range(200)]
    (folder / "t.csv").write_text("age,size,kind,price\n" + "\n".join(rows).replace("30,10,", "3O,10,") + "\n")
    out = fastmlp("train", "--plain", "--dataset", "t.csv", "--test", "t.csv", "--epochs", 1, "--out", "run")[1]
    assert "text       age (61), kind (2): one-hot encoded\n" in out
    assert "missing    values of size: replaced by the column's median\n" in out
    assert "note       age is read as text because of '3O'; its other values are numbers\n" in out
    assert " val rmse " in out and " val acc" not in out and "; 1 epoch, " in out


def test_a_refused_augmentation_leaves_the_old_run_alone(fastmlp, folder):
    assert fastmlp("train", "--epochs", 1, "--out", "run", "--quiet")[0] == 0
    before = {path.name: path.read_bytes() for path in (folder / "run").iterdir()}
    for option, value, message, code in (
        ("--mixup", "1e-7", "'1e-7' is not a number of at least 1e-06", 2),
        ("--noise", "1e38", "expected noise whose numbers float32 can hold", 1),
    ):
        found, _, err = fastmlp("train", "--epochs", 1, "--out", "run", "--force", option, value)
        assert found == code and message in err
    assert {path.name: path.read_bytes() for path in (folder / "run").iterdir()} == before


@pytest.mark.slow
def test_what_is_more_than_the_rows_is_not_announced(fastmlp, folder):
    out = fastmlp("train", "--epochs", 1, "--out", "a", "--accumulate", 100, "--batch-size", 2000)[1]
    assert "batches of 1437\n" in out
    out = fastmlp("train", "--epochs", 1, "--out", "b", "--accumulate", 100, "--batch-size", 500)[1]
    assert "batches of 500, 3 per update\n" in out


def test_a_table_of_numbers(fastmlp, folder):
    """Prices of order 1e5 are learnt: the outputs are scaled, and in the saved model too."""
    generator = np.random.default_rng(0)
    X = generator.standard_normal((400, 3))
    y = 1e5 * (3 + X @ [1.0, -0.5, 0.2])
    np.savez(folder / "t.npz", X=X, y=y)
    code, out, _ = fastmlp("train", "--dataset", "t.npz", "--epochs", 20, "--out", "run")
    assert code == 0 and "regression" in out and "test r2 0.9" in out
    records = metrics_of(folder / "run")
    assert records[-1]["val_accuracy"] is None and records[-1]["val_loss"] > 0
    predictions = fm.load_model(folder / "run" / "model.safetensors").infer(X)[:, 0]
    assert np.corrcoef(predictions, y)[0, 1] > 0.99 and abs(predictions.mean() - y.mean()) < 1e4


def test_runs_are_never_overwritten_unasked(fastmlp, folder):
    assert fastmlp("train", "--epochs", 1, "--out", "run")[0] == 0
    before = (folder / "run" / "model.safetensors").read_bytes()
    code, out, err = fastmlp("train", "--epochs", 1, "--seed", 3, "--out", "run")
    assert code == 1 and out == "" and err.startswith("fastmlp: error: run is not empty")
    assert (folder / "run" / "model.safetensors").read_bytes() == before
    assert fastmlp("train", "--epochs", 1, "--seed", 3, "--out", "run", "--force")[0] == 0
    assert (folder / "run" / "model.safetensors").read_bytes() != before
    (folder / "new").mkdir()
    assert fastmlp("train", "--epochs", 1, "--out", "new")[0] == 0  # an empty folder will do


@pytest.mark.slow
def test_two_runs_in_one_second_do_not_meet(fastmlp, monkeypatch, folder):
    from fastmlp.cli import runs

    monkeypatch.setattr(runs.time, "strftime", lambda form: "20200101-000000")
    for _ in range(3):
        assert fastmlp("train", "--epochs", 1)[0] == 0
    stem = "digits-20200101-000000"
    assert sorted(p.name for p in (folder / "runs").iterdir()) == [stem, stem + "-2", stem + "-3"]


@pytest.mark.slow
def test_early_stopping(fastmlp, folder):
    options = ("--steps", 4000, "--eval-every", 20, "--lr", 0.05, "--out", "run", "--early-stopping", 3)
    code, out, err = fastmlp("train", *options)
    assert code == 0 and err == ""
    metrics, config = metrics_of(folder / "run"), config_of(folder / "run")
    best = int(np.argmin([record["val_loss"] for record in metrics]))
    assert len(metrics) == best + 4 and config["options"]["early_stopping"] == 3
    steps = metrics[-1]["step"]
    assert f"stopped early after {steps:,} of 4,000 steps, with the weights of step {metrics[best]['step']:,}:" in out
    _, _, X, y = fm.load("digits")
    loss = fm.CrossEntropyLoss().forward(fm.Predictor(folder / "run")(X), y)
    assert loss == pytest.approx(metrics[best]["val_loss"], rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["classification", "regression"])
def test_every_plain_run_is_made_by_the_engine(fastmlp, folder, monkeypatch, loss):
    """Regressions too, whose outputs are scaled; nothing is said on standard error."""
    sessions, fit = [], fm.Trainer.fit

    def spy(self, *arguments, **options):
        history = fit(self, *arguments, **options)
        sessions.append(self._session)
        return history

    monkeypatch.setattr(fm.Trainer, "fit", spy)
    X = np.random.default_rng(0).normal(size=(60, 3))
    y = X @ [1.0, 2.0, 3.0] if loss == "regression" else X[:, 0] > 0
    np.savez(folder / "t.npz", X=X, y=y)
    for dtype in ("float32", "float64"):
        code, _, err = fastmlp("train", "--dataset", "t.npz", "--epochs", 1, "--dtype", dtype, "--out", dtype)
        assert (code, err) == (0, "")
    assert len(sessions) == 2 and None not in sessions


@pytest.mark.slow
@pytest.mark.filterwarnings("default::fastmlp.PerformanceWarning")
def test_a_slow_way_is_one_line_on_standard_error(fastmlp, folder, monkeypatch):
    monkeypatch.setattr("fastmlp.engine.runner.Engine.has_room", lambda self, rows, accumulate: False)  # as on a GPU
    shown = warnings.showwarning
    code, out, err = fastmlp("train", "--epochs", 2, "--accumulate", 2, "--out", "run")
    assert code == 0 and "test accuracy" in out and warnings.showwarning is shown
    expected = "Training goes module by module, which is slower: all rows of a step would have to be in memory at once."
    assert err == f"fastmlp: note: {expected}\n"
