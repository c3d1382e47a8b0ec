"""Files saved by earlier versions give the same results; `saved/make.py` wrote them."""

from __future__ import annotations

import pickle
import runpy
import shutil
from pathlib import Path

import numpy as np
import pytest
from checks import C, assert_matches, eps

import fastmlp as fm

SAVED = Path(__file__).parent / "saved"
MAKE = runpy.run_path(str(SAVED / "make.py"))
X = MAKE["rows"]()[0]


@pytest.fixture(scope="module")
def answers():
    with np.load(SAVED / "answers.npz") as arrays:
        return dict(arrays)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_models(answers, dtype):
    name = f"model-{np.dtype(dtype).name}"
    ref, model = answers[name], fm.load_model(SAVED / f"{name}.safetensors")
    assert model.dtype == dtype and model.classes == ["a", "b", "c"] and model.task == "classification"
    # Probabilities of a network of a dozen layers.
    for comp in (model.infer(X.astype(dtype)), fm.Predictor(model)(X.astype(dtype))):
        assert_matches(ref, comp, 64 * C * eps(dtype) * np.ones_like(ref))


@pytest.mark.parametrize("name", ["classifier", "regressor", "lbfgs", "partial"])
def test_pickles_of_estimators(answers, name):
    pytest.importorskip("sklearn")
    ref, comp = answers[name], pickle.loads((SAVED / f"{name}.pickle").read_bytes()).predict(X)
    if ref.dtype.kind == "U":
        np.testing.assert_array_equal(comp, ref)
    else:
        assert_matches(ref, comp, 64 * C * eps(np.float32) * np.maximum(1, np.abs(ref)))


def test_partial_fit_goes_on():
    pytest.importorskip("sklearn")
    made = pickle.loads((SAVED / "partial.pickle").read_bytes())
    before = made.coefs_[0].copy()
    made.partial_fit(X, np.array(["no", "yes"])[MAKE["rows"]()[1]])
    assert not np.array_equal(made.coefs_[0], before)


def test_states_of_training(answers, tmp_path):
    """A fit that was stopped goes on, to the weights of one that was not."""
    state = shutil.copy(SAVED / "training.safetensors", tmp_path)
    trainer = MAKE["trainer"]()
    _, labels, _ = MAKE["rows"]()
    options = {"batch_size": 4, "epochs": 4, "validation": (X, labels), "rng": 5}
    trainer.fit(X, labels, **options, callbacks=[fm.EarlyStopping(50)], resume=state)
    for name, comp in trainer.model.state_dict().items():
        ref = answers[f"training, {name}"]
        # Adam's steps have size lr for any gradient, so an ulp of a gradient near 0 can change a fraction of a step.
        assert_matches(ref, comp, 1e-5 * np.ones_like(ref), name)


def test_states_of_other_kernels_go_on(tmp_path, monkeypatch):
    """A release changes the kernels, and must not lose a run."""
    state = shutil.copy(SAVED / "training.safetensors", tmp_path)
    trainer = MAKE["trainer"]()
    _, labels, _ = MAKE["rows"]()
    monkeypatch.setattr(fm.training.fit, "_kernels", lambda trainer: "others")
    with pytest.warns(UserWarning, match="was saved by other kernels .* last bits may differ"):
        trainer.fit(
            X,
            labels,
            batch_size=4,
            epochs=4,
            validation=(X, labels),
            rng=5,
            callbacks=[fm.EarlyStopping(50)],
            resume=state,
        )
    assert trainer.steps == 12


@pytest.mark.parametrize("name", ["run", "run-table"])
def test_run_folders(name, tmp_path, monkeypatch, capsys):
    from fastmlp.cli import main

    shutil.copytree(SAVED / name, tmp_path / name)
    shutil.copy(SAVED / "table.csv", tmp_path)
    monkeypatch.chdir(tmp_path)
    assert main(["evaluate", name]) == 0
    out = capsys.readouterr().out
    last = (tmp_path / name / "metrics.jsonl").read_text().splitlines()[-1]
    assert "loss" in out and "val_loss" in last
    if name == "run-table":
        assert main(["predict", name, "table.csv", "--output", "answers.csv"]) == 0
        assert len((tmp_path / "answers.csv").read_text().splitlines()) in (40, 41)
