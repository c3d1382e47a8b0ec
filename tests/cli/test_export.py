"""fastmlp export."""

from __future__ import annotations

import json

import numpy as np
import pytest
from checks import assert_matches

import fastmlp as fm
from fastmlp._kernels import use_backend
from fastmlp.cli import main


@pytest.fixture
def run(tmp_path, rng):
    with use_backend("numpy"):
        model = fm.MLP(4, [5], 2, normalize=fm.Normalize([1, 2, 3, 4], [1, 2, 1, 2]), rng=0)
    model.task = "classification"
    fm.save(model, tmp_path / "model.safetensors")
    return tmp_path


@pytest.mark.parametrize("form, suffix", [("onnx", "onnx"), ("torch", "pt"), ("c", "c"), ("npz", "npz")])
def test_each_form(run, form, suffix, capsys):
    pytest.importorskip({"onnx": "onnx", "torch": "torch"}.get(form, "numpy"))
    assert main(["export", str(run), "--to", form]) == 0
    path = run / f"model.{suffix}"
    assert capsys.readouterr().out.startswith(f"{path}: {path.stat().st_size} bytes; ")
    before = path.read_bytes()
    assert main(["export", str(run / "model.safetensors"), "--to", form]) == 1
    assert "exists; give another --out, or --force" in capsys.readouterr().err
    assert main(["export", str(run), "--to", form, "--force"]) == 0
    assert main(["export", str(run), "--to", form, "--out", str(run / "other")]) == 0
    assert (run / "other").exists() and path.stat().st_size == len(before)
    model = fm.load_model(run / "model.safetensors")
    if form in ("torch", "npz"):
        twin = fm.load_model(run / "model.safetensors")
        twin.load_state_dict({name: array * 0 + 1 for name, array in twin.state_dict().items()})
        twin.load_state_dict(path)
        for name, array in model.state_dict().items():
            assert array.tobytes() == twin.state_dict()[name].tobytes()
    if form == "npz":
        assert json.loads(str(np.load(path)["__model__"]))["type"] == "MLP"
    if form == "onnx":
        x = np.ones((2, 4), np.float32)
        assert_matches(fm.Predictor(model)(x), fm.Predictor(fm.import_onnx(path))(x), 0)


def test_mistakes(run, capsys):
    assert main(["export", str(run), "--to", "caffe"]) == 2
    assert "invalid choice: 'caffe'" in capsys.readouterr().err
    assert main(["export", str(run / "nothing"), "--to", "c"]) == 1
    assert capsys.readouterr().err.endswith("does not exist; expected a run folder or a saved model.\n")
    assert main(["export", str(run), "--to", "c", "--out", str(run / "no" / "m.c")]) == 1
    assert capsys.readouterr().err.endswith("No such file or directory.\n")
