"""Activations of users: with a formula they are as fast as ours, without one they are trained module by module."""

from __future__ import annotations

import shutil
import warnings

import numpy as np
import pytest
import squareplus
from checks import assert_matches

import fastmlp as fm
from fastmlp._kernels import formulas
from fastmlp.modules import activations
from fastmlp.modules.activations import Activation


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    """Restore the registries after a test."""
    monkeypatch.setattr(activations._registry, "_types", {**activations._registry._types})
    monkeypatch.setitem(formulas._registered, "activations", {})


class Squareplus(Activation):
    """Computes by a formula, whose name is its kind."""

    kind = "squareplus"
    onnx_runtime_float64 = False

    def __init__(self, b=4.0):
        super().__init__()
        self.alpha = b

    def config(self):
        return {"type": "Squareplus", "b": self.alpha}


class Doubled(fm.Tanh):
    """tanh(2 x), by methods of its own."""

    kind = "doubled"

    def _compute(self, x, keep):
        y = np.tanh(2 * x)
        self._saved = (x, y) if keep else None
        return y

    def _gradient(self, dy, need_dx):
        return 2 * dy * (1 - self._saved[1] ** 2) if need_dx else None


X = np.random.default_rng(0).normal(size=(40, 5)).astype(np.float32)
Y = np.arange(40) % 3


def trained(activation, backend, **options):
    with fm.use_backend(backend):
        model = fm.MLP(5, [7], 3, activation, rng=0)
        trainer = fm.Trainer(model, fm.CrossEntropyLoss(), fm.SGD(0.1, 0.9))
        trainer.fit(X, Y, batch_size=8, max_steps=6, rng=1, threads=1, **options)
    return trainer


def assert_there_and_back(model, tmp_path):
    """Saved, loaded, and computed by the predictor."""
    fm.save(model, tmp_path / "m.safetensors")
    for other in (fm.load_model(tmp_path / "m.safetensors"), fm.Predictor(tmp_path / "m.safetensors")):
        assert_matches(model.infer(X), other(X), 1e-6)
    assert repr(fm.load_model(tmp_path / "m.safetensors")) == repr(model)


def register_squareplus():
    formulas.register("activations", "squareplus", squareplus)
    assert fm.register_activation(Squareplus) is Squareplus


def test_with_a_formula(tmp_path):
    register_squareplus()
    ref = trained(Squareplus(2.0), "numpy")
    comp = trained(Squareplus(2.0), "numba")
    for name, array in ref.model.state_dict().items():
        assert_matches(array, comp.model.state_dict()[name], 1e-5, name)
    assert comp._session is not None
    fm.check_gradients(Squareplus(2.0), x=X[:4])
    assert_there_and_back(comp.model, tmp_path)
    x = np.array([[-1e3, -2, 0, 0.5, 1e3]])
    assert_matches((x + np.sqrt(x * x + 2)) / 2, Squareplus(2.0).forward(x), 1e-13 * np.abs(x))


@pytest.mark.skipif(not (shutil.which("gcc") or shutil.which("cc")), reason="no C compiler")
def test_a_formula_in_c(tmp_path):
    from exchange.test_c import outputs

    register_squareplus()
    model = fm.MLP(5, [7], 3, Squareplus(2.0), rng=0)
    assert_matches(model.infer(X), outputs(model, X, tmp_path), 1e-5)


def test_the_estimators_and_the_command_line_know_it():
    pytest.importorskip("sklearn")
    from fastmlp.cli.train_options import activation_names

    net = fm.MLPClassifier((4,), "squareplus", max_iter=2, random_state=0)
    with pytest.raises(ValueError, match="'activation' parameter of MLPClassifier must be a str among"):
        net.fit(X, Y)
    register_squareplus()
    assert "squareplus" in activation_names()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of so short a fit
        assert net.fit(X, Y).predict(X).shape == (40,)


def test_without_a_formula(tmp_path):
    fm.register_activation(Doubled)
    with pytest.warns(fm.PerformanceWarning, match="the module Doubled is not one that the engine knows") as caught:
        comp = trained("doubled", "numba")
        comp.fit(X, Y, batch_size=8, max_steps=6, rng=1, threads=1)
    assert len(caught) == 1 and comp._session is None
    assert_matches(np.tanh(2 * X), fm.Sequential(Doubled()).infer(X), 1e-6)
    fm.check_gradients(fm.MLP(5, [7], 3, "doubled", dtype=np.float64, rng=0), x=X[:4])
    assert_there_and_back(comp.model, tmp_path)


def test_a_subclass_is_not_exported_as_what_it_is_derived_from(tmp_path):
    model = fm.MLP(5, [7], 3, Doubled(), rng=0)
    with pytest.raises(ValueError, match="export_c does not support Doubled"):
        fm.export_c(model, tmp_path / "m.c")
    if "to_torch" in fm.__all__:
        with pytest.raises(ValueError, match="PyTorch has no Doubled"):
            fm.to_torch(model)
    pytest.importorskip("onnx")
    for activation in (Doubled(), Squareplus()):
        with pytest.raises(ValueError, match=f"There is no ONNX for {type(activation).__name__}"):
            fm.export_onnx(fm.MLP(5, [7], 3, activation, rng=0), tmp_path / "m.onnx")


def test_what_cannot_be_registered():
    with pytest.raises(ValueError, match="Squareplus.kind is 'squareplus', and there is no formula of that name"):
        fm.register_activation(Squareplus)
    with pytest.raises(ValueError, match="Expected a class derived from Activation, got 3"):
        fm.register_activation(3)
    with pytest.raises(ValueError, match="Expected a class derived from Activation"):
        fm.register_activation(fm.Linear)
    taken = type("Taken", (Activation,), {"kind": "relu"})
    with pytest.raises(ValueError, match="Activation 'relu' already exists; expected another name"):
        fm.register_activation(taken)
    with pytest.raises(ValueError, match="The name 'relu' is taken in activations"):
        formulas.register("activations", "relu", squareplus)
