"""Scale: formula and gradients in float64, infinities, errors, and ONNX's Mul by a constant."""

import numpy as np
import pytest
from checks import C, assert_matches, eps

import fastmlp as fm


def scaled(width, dtype, rng):
    layer = fm.Scale(width, dtype=dtype)
    np.testing.assert_array_equal(layer.params["weight"], np.ones(width))
    layer.params["weight"] = rng.normal(size=width)
    return layer


@pytest.mark.parametrize("rows, width", [(1, 1), (1, 7), (5, 8), (3, 17), (6, 33), (0, 4)])
def test_formula(backend, rows, width, dtype, rng):
    layer = scaled(width, dtype, rng)
    x, dy = rng.normal(size=(2, rows, width)).astype(dtype)
    X, DY, W = (array.astype(np.float64) for array in (x, dy, layer.state_dict()["weight"]))
    y, dx, dw, size = X * W, DY * W, (DY * X).sum(axis=0), np.abs(DY * X).sum(axis=0)
    assert_matches(y, layer.forward(x), C * eps(dtype) * np.abs(y))
    assert_matches(dx, layer.backward(dy), C * eps(dtype) * np.abs(dx))
    assert_matches(dw, layer.backend.to_numpy(layer.grads["weight"]), C * eps(dtype) * np.sqrt(max(1, rows)) * size)


def test_infinities_and_nan(backend, dtype):
    layer = fm.Scale(3, dtype=dtype)
    layer.params["weight"] = [0.0, 2.0, -1.0]
    with np.errstate(invalid="ignore"):
        comp = layer.infer(np.array([[np.inf, np.inf, np.inf], [np.nan, np.nan, 1]], dtype))
    np.testing.assert_array_equal(comp, [[np.nan, np.inf, -np.inf], [np.nan, np.nan, -1]])


@pytest.mark.parametrize("arguments", [(0,), (-1,), (2.5,), ("2",)])
def test_bad_arguments(arguments):
    with pytest.raises(ValueError, match="features is"):
        fm.Scale(*arguments)
    with pytest.raises(ValueError, match="dtype"):
        fm.Scale(2, dtype=np.int32)


@pytest.mark.parametrize("shape", [(3,), (1, 3), (1,), (), (4, 3)], ids=str)
@pytest.mark.parametrize("first", [True, False])
def test_mul_of_onnx(shape, first, tmp_path, rng):
    onnx = pytest.importorskip("onnx")
    helper = onnx.helper
    factor = rng.normal(size=shape).astype(np.float32)
    inputs = ["w", "x"] if first else ["x", "w"]
    graph = helper.make_graph(
        [helper.make_node("Mul", inputs, ["y"])], "g",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["N", 3])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["N", 3])],
        [onnx.numpy_helper.from_array(factor, "w")],
    )  # fmt: skip
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "m.onnx")
    if shape == (4, 3):  # another factor in each row
        with pytest.raises(fm.ModelFileError, match=r"constant of shape \(4, 3\), expected \(3,\)"):
            fm.import_onnx(tmp_path / "m.onnx")
        return
    [layer] = fm.import_onnx(tmp_path / "m.onnx")
    x = rng.normal(size=(4, 3)).astype(np.float32)
    np.testing.assert_array_equal(layer.infer(x), x * factor.reshape(-1))
