"""Each layer by the examples that its class gives: saving, the engine, a GPU's steps, Predictor, C, ONNX, PyTorch."""

from __future__ import annotations

import json
from functools import partial

import numpy as np
import pytest
from checks import C, assert_matches, eps
from compiled import SIMULATED
from same_steps import assert_same_steps

import fastmlp as fm
from fastmlp.inference.kernels import inference_kernels
from fastmlp.modules.config import module_from_config, module_types

WIDTH = 5


def examples(dtype):
    """All that are no activations, which have tests of their own."""
    kinds = [kind for kind in module_types().values() if not issubclass(kind, fm.Activation)]
    return [one for kind in kinds for one in kind.examples_of_width(WIDTH, np.dtype(dtype), np.random.default_rng(7))]


with fm.use_backend("numpy"):
    LAYERS = {repr(one): place for place, one in enumerate(examples(np.float32))}
every_layer = pytest.mark.parametrize("place", LAYERS.values(), ids=list(LAYERS))
pytestmark = pytest.mark.skipif(SIMULATED, reason="tests of the CPU")


def model_of(place, dtype):
    layer = examples(dtype)[place]
    last = fm.Linear(layer.out_width or WIDTH, 3, dtype=dtype, rng=2)
    if layer.reads_features:
        return fm.Sequential(layer, last)
    return fm.Sequential(fm.Linear(9, WIDTH, dtype=dtype, rng=1), layer, last)


def width_of(place):
    return model_of(place, np.float32).in_width


def on_numpy(place, dtype, rng):
    """(model in evaluation, x, outputs, bound): some roundings of sums of at most 9 terms of order 1."""
    with fm.use_backend("numpy"):
        model = model_of(place, dtype).eval()
    x = rng.normal(size=(6, model.in_width)).astype(dtype)
    ref = model.infer(x)
    return model, x, ref, 64 * C * eps(dtype) * np.sqrt(9) * (1 + np.abs(ref).max())


@every_layer
def test_saving(place, dtype, tmp_path, rng):
    model, x, ref, _ = on_numpy(place, dtype, rng)
    fm.save(model, tmp_path / "m.safetensors")
    with fm.use_backend("numpy"):
        back = fm.load_model(tmp_path / "m.safetensors")
        again = module_from_config(json.loads(json.dumps(model.config())))
    again.load_state_dict(model.state_dict())
    for one in (back, again.eval()):
        assert repr(one) == repr(model)
        np.testing.assert_array_equal(one.infer(x), ref)


@pytest.mark.sampled
@every_layer
def test_engine(place, dtype, rng):
    data = rng.normal(size=(40, width_of(place))).astype(dtype), rng.integers(0, 3, 40)
    assert_same_steps(partial(model_of, place, dtype), fm.CrossEntropyLoss, partial(fm.Adam, 0.01), data, threads=2)


@every_layer
def test_steps_on_a_gpu(place):
    pytest.importorskip("numba_cuda")
    pytest.importorskip("greenlet")
    from same_gpu_steps import assert_same_steps as assert_same_gpu_steps

    generator = np.random.default_rng(0)
    data = generator.standard_normal((11, 9)), generator.integers(0, 3, 11)
    with fm.use_backend("numpy"):
        if any(module.reads_features for module in model_of(place, "float64")):
            pytest.skip("no kernels for GPUs")
        assert_same_gpu_steps(partial(model_of, place, "float64"), fm.CrossEntropyLoss, partial(fm.SGD, 0.1, 0.9), data)


@every_layer
def test_predictor(place, dtype, rng):
    model, x, ref, bound = on_numpy(place, dtype, rng)
    predictor = fm.Predictor(model)
    assert inference_kernels() is None or predictor.instructions != "numpy"
    assert_matches(ref, predictor(x), bound)


@every_layer
def test_c(place, dtype, tmp_path, rng):
    from exchange.test_c import CC, outputs

    if CC is None:
        pytest.skip("no C compiler")
    model, x, ref, bound = on_numpy(place, dtype, rng)
    assert_matches(ref, outputs(model, x, tmp_path), bound)


@every_layer
def test_onnx(place, tmp_path, rng):
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    from exchange.test_onnx import outputs

    model, x, ref, bound = on_numpy(place, np.float32, rng)
    fm.export_onnx(model, tmp_path / "m.onnx")
    assert_matches(ref, outputs(tmp_path / "m.onnx", x), bound)
    if not any(module.reads_features for module in model):  # whose code has no reader
        assert_matches(ref, fm.import_onnx(tmp_path / "m.onnx").infer(x), bound)


@every_layer
def test_pytorch(place, dtype, rng):
    """There and back, and its autograd's gradients."""
    torch = pytest.importorskip("torch")
    model, x, ref, bound = on_numpy(place, dtype, rng)
    if not all(module.torch for module in model):
        with pytest.raises(ValueError, match=r"PyTorch has no \w+"):
            fm.to_torch(model)
        return
    twin = fm.to_torch(model)
    assert list(twin.state_dict()) == list(model.state_dict())
    inputs = torch.tensor(x, requires_grad=True)
    theirs = twin(inputs)
    assert_matches(ref, theirs.detach().numpy(), bound)
    dy = rng.normal(size=ref.shape).astype(dtype)
    theirs.backward(torch.tensor(dy))
    model.forward(x)
    found = {"dx": model.backward(dy), **dict(model.named_gradients())}
    expected = {"dx": inputs.grad, **{name: one.grad for name, one in twin.named_parameters()}}
    assert list(found) == list(expected)
    for name, ours in found.items():
        size = 1 + np.abs(expected[name].numpy()).max()
        assert_matches(expected[name].numpy(), ours, 64 * C * eps(dtype) * np.sqrt(9) * size, name)
    with fm.use_backend("numpy"):
        back = fm.from_torch(twin)
    assert [type(one) for one in back] == [type(one) for one in model]  # a Dropout of PyTorch's has no seed
    np.testing.assert_array_equal(back.infer(x), ref)
