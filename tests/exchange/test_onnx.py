"""ONNX: every module out to ONNX Runtime, and MLPs back in."""

from __future__ import annotations

import numpy as np
import pytest
from activations import EXAMPLES
from checks import C, assert_matches, eps
from exchange.zoo import activated, everything

import fastmlp as fm

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
helper = onnx.helper


def outputs(path, x):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})[0]


def narrow(config):
    """With floats as ONNX keeps them."""
    return {key: np.float32(value) if isinstance(value, float) else value for key, value in config.items()}


@pytest.mark.parametrize("name", EXAMPLES)
def test_each_activation_there_and_back(name, tmp_path, rng):
    model, x, ref, bound = activated(name, np.dtype(np.float32), rng)
    path = tmp_path / "model.onnx"
    fm.export_onnx(model, path)
    onnx.checker.check_model(str(path), full_check=True)
    if name in ("gelu", "gelu_tanh"):
        # ONNX's formula is x (1 + erf) / 2: near -x the 1 cancels, and an error of eps x remains in each hidden unit.
        bound = bound + 8 * C * eps(np.float32) * np.sqrt(19 * 12)
    assert_matches(ref, outputs(path, x), bound)
    assert_matches(ref[:1], outputs(path, x[:1]), bound[:1])
    back = fm.import_onnx(path)
    leaves = [narrow(m.config()) for m in model if not isinstance(m, fm.Identity)]
    assert [narrow(m.config()) for m in back] == leaves and not back.training
    for a, b in zip(model.state_dict().values(), back.state_dict().values(), strict=True):
        assert a.tobytes() == b.tobytes()


def test_every_other_module(tmp_path, rng):
    model, x, ref, bound = everything(np.dtype(np.float32), rng)
    model.task, model.classes = "classification", ["a", "b", "c", "d", "e"]
    path = tmp_path / "model.onnx"
    fm.export_onnx(model, path)
    assert_matches(ref, outputs(path, x), bound)
    back = fm.import_onnx(path)
    assert (back.task, back.classes) == (model.task, model.classes)
    assert_matches(ref, fm.Predictor(back)(x), bound)
    fm.export_onnx(model, tmp_path / "again.onnx")
    assert path.read_bytes() == (tmp_path / "again.onnx").read_bytes()


def test_float64(tmp_path, rng):
    model, x, ref, bound = activated("tanh", np.dtype(np.float64), rng)
    fm.export_onnx(model, tmp_path / "m.onnx")
    assert_matches(ref, outputs(tmp_path / "m.onnx", x), bound)
    assert fm.import_onnx(tmp_path / "m.onnx").dtype == np.float64


def test_bad_files(tmp_path, rng):
    fm.export_onnx(fm.MLP(3, [4], 2, rng=0), tmp_path / "good.onnx")
    good = (tmp_path / "good.onnx").read_bytes()
    for number, data in enumerate(
        [b"", b"rubbish", good[: len(good) // 2], bytes(rng.integers(0, 256, 500, np.uint8))]
    ):
        path = tmp_path / f"{number}.onnx"
        path.write_bytes(data)
        with pytest.raises(fm.ModelFileError, match="not a valid ONNX file|no MLP"):
            fm.import_onnx(path)
    with pytest.raises(FileNotFoundError):
        fm.import_onnx(tmp_path / "none.onnx")
    with pytest.raises(ValueError, match="takes any width"):
        fm.export_onnx(fm.Sequential(fm.ReLU()), tmp_path / "x.onnx")
    with pytest.raises(ValueError, match="expected a fastmlp module"):
        fm.export_onnx(None, tmp_path / "x.onnx")
    assert not (tmp_path / "x.onnx").exists()


def test_without_onnx(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(fm.BackendError, match=r"needs the package onnx.*fastmlp\[onnx\]"):
        fm.import_onnx(tmp_path / "m.onnx")
