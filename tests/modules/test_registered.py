"""A module of a user's: saved and loaded once it is registered, exported where it says how, trained by modules."""

from __future__ import annotations

import subprocess
import sys
import warnings

import numpy as np
import pytest
from checks import assert_matches, eps
from same_steps import modules_only

import fastmlp as fm
from fastmlp.modules import config
from fastmlp.modules.onnx_node import Node

SQUARE = "static void square(T *x, int n) { for (int i = 0; i < n; i++) x[i] = x[i] * x[i]; }\n"


class Square(fm.Module):
    """y = x^2, with its own ways out."""

    def _compute(self, x, keep):
        if keep:
            self._saved = (x,)
        return x * x

    def _gradient(self, dy, need_dx):
        return 2 * dy * self._saved[0]

    def onnx_nodes(self):
        return [Node("Pow", 13, (np.array(2.0),))]

    def to_c(self, body):
        body.function(SQUARE)
        body.call("square")


class Quiet(Square):
    """Computes otherwise, and says nothing of how."""

    def _compute(self, x, keep):
        return -super()._compute(x, keep)

    def _gradient(self, dy, need_dx):
        return -super()._gradient(dy, need_dx)


@pytest.fixture
def registered(monkeypatch):
    monkeypatch.setattr(config, "_registered", dict(config._registered))
    fm.register_module(Square)
    fm.register_module(Quiet)


def model_of(kind=Square):
    return fm.Sequential(fm.Linear(4, 5, rng=1), kind(), fm.Linear(5, 3, rng=2))


X = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)
Y = np.arange(20) % 3


def test_saving(registered, tmp_path):
    model = model_of()
    fm.save(model, tmp_path / "m.safetensors")
    back = fm.load_model(tmp_path / "m.safetensors")
    assert type(back[1]) is Square
    np.testing.assert_array_equal(back.infer(X), model.infer(X))
    code = f"import fastmlp as fm\ntry: fm.load_model({str(tmp_path / 'm.safetensors')!r})\n"
    code += "except fm.ModelFileError as error: print(error)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "'Square'" in result.stdout and "register_module" in result.stdout, result.stderr


@pytest.mark.parametrize("kind", [Square, Quiet])
def test_training_goes_by_modules_and_says_so_once(registered, kind):
    trainer = fm.Trainer(model_of(kind), fm.CrossEntropyLoss(), fm.SGD(0.1))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(2):
            trainer.fit(X, Y, batch_size=7, epochs=2, rng=0)
    [warning] = caught
    assert warning.category is fm.PerformanceWarning and kind.__name__ in str(warning.message)
    with modules_only():
        ref = fm.Trainer(model_of(kind), fm.CrossEntropyLoss(), fm.SGD(0.1))
        for _ in range(2):
            ref.fit(X, Y, batch_size=7, epochs=2, rng=0)
    for name, array in ref.model.state_dict().items():
        np.testing.assert_array_equal(trainer.model.state_dict()[name], array)


def test_a_subclass_that_computes_the_same_uses_the_engine_once_registered(monkeypatch):
    class Mine(fm.Linear):
        pass

    monkeypatch.setattr(config, "_registered", dict(config._registered))
    fm.register_module(Mine)
    states = []
    for kind in (fm.Linear, Mine):
        trainer = fm.Trainer(fm.Sequential(kind(4, 3, rng=0)), fm.CrossEntropyLoss(), fm.SGD(0.1))
        trainer.fit(X, Y, batch_size=7, epochs=2, rng=0)
        assert trainer._session is not None
        states.append(trainer.model.state_dict())
    for name, array in states[0].items():
        np.testing.assert_array_equal(states[1][name], array)


def test_exports(registered, tmp_path):
    from exchange.test_c import CC, outputs

    model = model_of().eval()
    ref, bound = model.infer(X), 100 * eps(np.float32)
    assert_matches(ref, fm.Predictor(model)(X), bound)
    if CC is not None:
        assert_matches(ref, outputs(model, X, tmp_path), bound)
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    from exchange.test_onnx import outputs as of_onnx

    fm.export_onnx(model, tmp_path / "m.onnx")
    assert_matches(ref, of_onnx(tmp_path / "m.onnx", X), bound)


def test_a_subclass_that_computes_otherwise_has_no_exports(registered, tmp_path):
    model = model_of(Quiet)
    exports = [partial_of(fm.export_c, tmp_path / "m.c")]
    if pytest.importorskip("onnx"):
        exports.append(partial_of(fm.export_onnx, tmp_path / "m.onnx"))
    for export in exports:
        with pytest.raises(ValueError, match="Quiet"):
            export(model)
    assert not list(tmp_path.iterdir())


def partial_of(export, path):
    return lambda model: export(model, path)
