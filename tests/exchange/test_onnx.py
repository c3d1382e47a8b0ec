"""ONNX: every module out to ONNX Runtime, and MLPs back in."""

from __future__ import annotations

import numpy as np
import pytest
from checks import C, assert_matches, eps
from exchange.zoo import KINDS, activated, everything

import fastmlp as fm

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
helper = onnx.helper


def outputs(path, x):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})[0]


@pytest.mark.parametrize("kind", KINDS)
def test_each_activation_there_and_back(kind, tmp_path, rng):
    model, x, ref, bound = activated(kind, np.dtype(np.float32), rng)
    path = tmp_path / "model.onnx"
    fm.export_onnx(model, path)
    onnx.checker.check_model(str(path), full_check=True)
    if kind in ("gelu", "gelu_tanh"):
        # ONNX's formula is x (1 + erf) / 2: near -x the 1 cancels, and an error of eps x remains in each hidden unit.
        bound = bound + 8 * C * eps(np.float32) * np.sqrt(19 * 12)
    assert_matches(ref, outputs(path, x), bound)
    assert_matches(ref[:1], outputs(path, x[:1]), bound[:1])
    back = fm.import_onnx(path)
    leaves = [repr(m) for m in model if not isinstance(m, fm.Identity)]
    assert [repr(m) for m in back] == leaves and not back.training
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


def graph(nodes, constants, inputs=("x",), outputs=("y",)):
    """A model of other makers."""
    tensors = [onnx.numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    value = helper.make_tensor_value_info
    made = helper.make_graph(
        [helper.make_node(*node[:3], **(node[3] if len(node) > 3 else {})) for node in nodes], "g",
        [value(name, onnx.TensorProto.FLOAT, ["N", None]) for name in inputs],
        [value(name, onnx.TensorProto.FLOAT, ["N", None]) for name in outputs], tensors,
    )  # fmt: skip
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


W = np.arange(6, dtype=np.float32).reshape(2, 3)
B = np.array([1, 2], np.float32)


def test_files_of_other_makers(tmp_path, rng):
    nodes = [
        ("Flatten", ["x"], ["a"]),
        ("MatMul", ["a", "w"], ["b"]),
        ("Add", ["bias", "b"], ["c"]),
        ("Sigmoid", ["c"], ["d"]),
        ("Mul", ["d", "c"], ["e"]),
        ("Gemm", ["e", "v", "bias"], ["f"], {"alpha": 0.5, "beta": 2.0}),
        ("MatMul", ["f", "v"], ["g"]),
        ("Softmax", ["g"], ["y"], {"axis": 1}),
    ]
    v = np.array([[1, 2], [3, 4]], np.float32)
    proto = graph(nodes, {"w": W.T, "bias": B, "v": v})
    onnx.save(proto, tmp_path / "m.onnx")
    model = fm.import_onnx(tmp_path / "m.onnx")
    x = rng.normal(size=(4, 3)).astype(np.float32)
    assert [type(m).__name__ for m in model] == ["Linear", "SiLU", "Linear", "Linear", "Softmax"]
    # Two programs within such a distance of the exact result each; values are of order 100 before the Softmax.
    assert_matches(outputs(tmp_path / "m.onnx", x), fm.Predictor(model)(x), 2000 * eps(np.float32))


@pytest.mark.parametrize(
    "nodes, message",
    [
        ([("Relu", ["x"], ["a"]), ("LSTM", ["a", "w", "w"], ["y"])], "is LSTM"),
        ([("Relu", ["x"], ["a"]), ("Add", ["a", "x"], ["y"])], "is Add"),
        ([("MatMul", ["w", "x"], ["y"])], "in this order"),
        ([("Softmax", ["x"], ["y"], {"axis": 0})], "is Softmax"),
        ([("Gemm", ["x", "w"], ["y"], {"transA": 1})], "is Gemm"),
        ([("Relu", ["x"], ["a"]), ("Relu", ["x"], ["y"])], "does not follow|expected a chain"),
        ([("MatMul", ["x", "w"], ["a"]), ("MatMul", ["a", "a"], ["y"])], "in this order"),
        ([("MatMul", ["x", "i"], ["y"])], "dtype int64"),
        ([("MatMul", ["x", "b"], ["y"])], "shape"),
        ([("MatMul", ["x", "w"], ["a"]), ("MatMul", ["a", "w"], ["y"])], "gives 2 columns"),
    ],
)
def test_graphs_that_are_no_mlp(tmp_path, nodes, message):
    proto = graph(nodes, {"w": W.T, "i": np.ones((3, 2), np.int64), "b": B})
    (tmp_path / "m.onnx").write_bytes(proto.SerializeToString())
    with pytest.raises(fm.ModelFileError, match=message):
        fm.import_onnx(tmp_path / "m.onnx")


def test_two_inputs(tmp_path):
    proto = graph([("Add", ["x", "z"], ["y"])], {}, inputs=("x", "z"))
    (tmp_path / "m.onnx").write_bytes(proto.SerializeToString())
    with pytest.raises(fm.ModelFileError, match="2 inputs and 1 outputs"):
        fm.import_onnx(tmp_path / "m.onnx")


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


def test_damage_that_fuzzing_found(tmp_path):
    path = tmp_path / "m.onnx"
    proto = graph([("MatMul", ["x", "w"], ["y"])], {"w": W.T})
    proto.graph.initializer[0].data_type = 117
    path.write_bytes(proto.SerializeToString())
    with pytest.raises(fm.ModelFileError, match="not a valid ONNX file|cannot be read"):
        fm.import_onnx(path)
    proto = graph([("Gemm", ["x", "w"], ["y"], {"alpha": float("inf")})], {"w": W.T})
    path.write_bytes(proto.SerializeToString())
    assert not np.isfinite(fm.import_onnx(path)[0].params["weight"]).any()


def test_without_onnx(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(fm.BackendError, match=r"needs the package onnx.*fastmlp\[onnx\]"):
        fm.import_onnx(tmp_path / "m.onnx")
