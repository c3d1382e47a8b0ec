"""EnsemblePredictor beside one Predictor for each network."""

import numpy as np
import pytest
from checks import assert_matches

import fastmlp as fm
from fastmlp.inference.ensemble import EnsemblePredictor


def nets(count, dtype="float32"):
    return [fm.MLP(5, [9, 17], 3, dtype=dtype, rng=seed) for seed in range(count)]


@pytest.mark.parametrize("count", [1, 2, 8])
@pytest.mark.parametrize("rows", [0, 1, 7, 500])
@pytest.mark.parametrize("kind", ["float32", "float64", "uint8", "strided", "list", "int64"])
def test_outputs_are_those_of_predictors(count, rows, kind, rng):
    models = nets(count, "float64" if kind == "float64" else "float32")
    x = rng.integers(0, 9, (rows, 10))
    x = x[:, ::2].astype("float32") if kind == "strided" else x[:, :5].astype("int64" if kind == "list" else kind)
    if kind == "strided":
        x = np.repeat(x, 2, axis=1)[:, ::2]
    x = x.tolist() if kind == "list" and rows else x
    outputs = [fm.Predictor(model, threads=1)(x).astype(np.float64) for model in models]
    ref, comp = sum(outputs[1:], outputs[0]) / count, EnsemblePredictor(models)(x)
    assert comp.shape == (rows, 3) and comp.dtype == np.float64
    assert np.array_equal(ref, comp)


def test_without_compiled_kernels(rng, monkeypatch):
    models, x = nets(3), rng.normal(size=(4, 5)).astype("float32")
    ref = EnsemblePredictor(models)(x)
    monkeypatch.setattr("fastmlp.inference.ensemble.inference_kernels", lambda: None)
    comp = EnsemblePredictor(models)
    assert np.array_equal(ref, comp(x))
    monkeypatch.setattr("fastmlp.inference.predictor.inference_kernels", lambda: None)
    assert_matches(ref, EnsemblePredictor(models)(x), 1e-5)


def test_errors_are_those_of_a_predictor():
    with pytest.raises(ValueError, match="5"):
        EnsemblePredictor(nets(2))(np.zeros((3, 4), np.float32))
