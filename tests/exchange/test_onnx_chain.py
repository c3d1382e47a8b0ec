"""Import of ONNX graphs of other programs: equal to ONNX Runtime, or an error."""

from __future__ import annotations

import re

import numpy as np
import pytest
from checks import assert_matches, eps
from exchange.test_onnx import outputs

import fastmlp as fm

onnx = pytest.importorskip("onnx")
helper = onnx.helper


def graph(nodes, constants, inputs=("x",), outputs=("y",), kind="FLOAT", shape=("N", None), opset=20, gives="FLOAT"):
    """A model of other makers; nodes are (operator, inputs, outputs, attributes)."""
    tensors = [onnx.numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    value = helper.make_tensor_value_info
    kind, gives = (getattr(onnx.TensorProto, name) for name in (kind, gives))
    made = helper.make_graph(
        [helper.make_node(*node[:3], **(node[3] if len(node) > 3 else {})) for node in nodes], "g",
        [value(name, kind, shape) for name in inputs],
        [value(name, gives, ["N", None]) for name in outputs], tensors,
    )  # fmt: skip
    domains = {node[3]["domain"] for node in nodes if len(node) > 3 and "domain" in node[3]}
    opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 1) for domain in domains)]
    return helper.make_model(made, opset_imports=opsets, ir_version=8)


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
    proto = graph(nodes, {"w": W.T, "bias": B, "v": v}, opset=17)
    onnx.save(proto, tmp_path / "m.onnx")
    model = fm.import_onnx(tmp_path / "m.onnx")
    x = rng.normal(size=(4, 3)).astype(np.float32)
    assert [type(m).__name__ for m in model] == ["Linear", "SiLU", "Linear", "Linear", "Softmax"]
    # Two programs within such a distance of the exact result each; values are of order 100 before the Softmax.
    assert_matches(outputs(tmp_path / "m.onnx", x), fm.Predictor(model)(x), 2000 * eps(np.float32))


TO = {name: {"to": getattr(onnx.TensorProto, name)} for name in onnx.TensorProto.DataType.keys() if name != "UNDEFINED"}
GEMM = ("Gemm", ["a", "w"], ["y"], {"transB": 1})
SQUARE = np.array([[1, -2, 3], [0.5, 1, -1], [2, 0, 1]], np.float32)
ROWS = np.array([[0, 1, 2], [3, 5, 250]])
FRACTIONS = np.array([[0.4, -1.7, 2.2], [3.5, 5.25, -8.75]], np.float32)

# Graphs that are MLPs, whatever they are written with: (nodes, constants, x, options of `graph`).
RIGHT = {
    **{
        f"cast from {kind}": ([("Cast", ["x"], ["a"], TO["FLOAT"]), GEMM], {}, ROWS.astype(dtype), {"kind": kind})
        for kind, dtype in [("UINT8", "u1"), ("INT32", "i4"), ("INT64", "i8"), ("BOOL", "?"), ("FLOAT16", "f2"),
                            ("DOUBLE", "f8"), ("FLOAT", "f4")]
    },
    "cast to double between": (
        [("Relu", ["x"], ["t"]), ("Cast", ["t"], ["c"], TO["DOUBLE"]), ("Tanh", ["c"], ["d"]),
         ("Cast", ["d"], ["a"], TO["FLOAT"]), GEMM], {}, FRACTIONS, {},
    ),
    "cast of the outputs": (
        [("Gemm", ["x", "w"], ["a"], {"transB": 1}), ("Cast", ["a"], ["y"], TO["DOUBLE"])], {}, FRACTIONS,
        {"gives": "DOUBLE"},
    ),
    "dropout": ([("Dropout", ["x"], ["a"]), GEMM], {}, FRACTIONS, {}),
    "dropout with a mask": ([("Dropout", ["x", "ratio"], ["a", "mask"]), GEMM], {"ratio": B[0] / 2}, FRACTIONS, {}),
    "dropout in inference": (
        [("Dropout", ["x", "", "train"], ["a"]), GEMM], {"train": np.array(False)}, FRACTIONS, {},
    ),
    "dropout of opset 10": (
        [("Dropout", ["x"], ["a"], {"ratio": 0.9}), ("Gemm", ["a", "wt", "c"], ["y"])], {"c": B}, FRACTIONS,
        {"opset": 10},
    ),
    "flatten": ([("Flatten", ["x"], ["a"], {"axis": -1}), GEMM], {}, FRACTIONS, {}),
    "images": ([("Relu", ["x"], ["t"]), ("Flatten", ["t"], ["a"]), GEMM], {}, FRACTIONS[:, None],
               {"shape": ["N", 1, 3]}),
    **{
        f"bias {bias.shape}": ([("Gemm", ["x", "w", "c"], ["y"], {"transB": 1, "alpha": 0.5, "beta": -2.0})],
                               {"c": bias}, FRACTIONS, {})
        for bias in (B, B[None], B[:1], B[:1, None], B[0])
    },
    **{
        f"added {bias.shape}": ([("MatMul", ["x", "wt"], ["a"]), ("Add", ["c", "a"], ["y"])], {"c": bias},
                                FRACTIONS, {})
        for bias in (B, B[None], B[:1], B[:1, None], B[0])
    },
    "a constant between": (
        [("MatMul", ["x", "wt"], ["a"]), ("Constant", [], ["c"], {"value_floats": [3.0, -4.0]}),
         ("Add", ["a", "c"], ["y"])], {}, FRACTIONS, {},
    ),
    "one constant in two places": (
        [("Gemm", ["x", "s", "b"], ["a"]), ("Relu", ["a"], ["c"]), ("Gemm", ["c", "s", "b"], ["y"], {"transB": 1})],
        {"s": SQUARE, "b": SQUARE[0]}, FRACTIONS, {},
    ),
    "a copy of a constant": (
        [("Gemm", ["x", "s"], ["a"]), ("Identity", ["s"], ["t"]), ("Gemm", ["a", "t"], ["y"])], {"s": SQUARE},
        FRACTIONS, {},
    ),
    **{
        f"normalized by {scale.shape} in {shape}": (
            [("Sub", ["x", "m"], ["t"]), ("Div", ["t", "s"], ["a"]), GEMM], {"m": mean, "s": scale}, FRACTIONS,
            {"shape": ["N", shape]},
        )
        for mean, scale, shape in [
            (SQUARE[0], SQUARE[1], None), (SQUARE[:1], B[0], None), (B[0], B[1:], None), (B[:1], B[1:], 3),
        ]
    },
    "normalized in the middle": (
        [("Gemm", ["x", "w"], ["a"], {"transB": 1}), ("Sub", ["a", "m"], ["c"]), ("Div", ["c", "s"], ["y"])],
        {"m": B[0], "s": B[1]}, FRACTIONS, {},
    ),
    "layer norm": (
        [("LayerNormalization", ["x", "m"], ["a"], {"axis": 1}), GEMM], {"m": SQUARE[0]}, FRACTIONS, {},
    ),
    "layer norm of one scale": (
        [("LayerNormalization", ["x", "m", "s"], ["a"], {"epsilon": 0.5}), GEMM], {"m": B[1:], "s": B[:1]},
        FRACTIONS, {},
    ),
    **{
        f"softmax of opset {opset}": ([("Gemm", ["x", "w", "b"], ["a"], {"transB": 1}), ("Softmax", ["a"], ["y"])],
                                      {"b": B}, FRACTIONS, {"opset": opset})
        for opset in (8, 11, 13)
    },
}  # fmt: skip


@pytest.mark.parametrize("name", RIGHT)
def test_each_way_of_writing_an_mlp(name, tmp_path):
    nodes, constants, x, options = RIGHT[name]
    proto = graph(nodes, {"w": W, "wt": W.T, **constants}, **options)
    onnx.save(proto, tmp_path / "m.onnx")
    ref, model = outputs(tmp_path / "m.onnx", x), fm.import_onnx(tmp_path / "m.onnx")
    comp = fm.Predictor(model)(x.reshape(len(x), -1))
    # Sums of at most three terms in two layers, of sizes up to 1000; both programs are that far from the exact result.
    assert_matches(ref, comp, 64 * eps(np.float32) * max(1, np.abs(ref).max()))
    assert ref.shape == comp.shape


def then(*node):
    """A node on the way to a Gemm."""
    return [(node[0], ["x", *node[2:]], ["a"], node[1]), GEMM]


ODD = {"i": np.ones((3, 2), np.int64), "one": np.ones(1, np.float32), "column": np.ones((2, 1), np.float32)}
REFUSED = [
    ([("Relu", ["x"], ["a"]), ("LSTM", ["a", "w", "w"], ["y"])], {}, "is LSTM without attributes; expected one of"),
    ([("Relu", ["x"], ["a"]), ("Add", ["a", "x"], ["y"])], {}, "is Add"),
    ([("MatMul", ["w", "x"], ["y"])], {}, "in this order"),
    ([("Softmax", ["x"], ["y"], {"axis": 0})], {}, "is Softmax with {'axis': 0}; expected the last axis"),
    ([("Gemm", ["x", "w"], ["y"], {"transA": 1})], {}, "is Gemm with {'transA': 1}; expected transA 0"),
    ([("Gemm", ["w", "wt", "x"], ["y"])], {}, "in this order"),
    ([("Relu", ["x"], ["a"]), ("Relu", ["x"], ["y"])], {}, "node Relu does not follow the one before"),
    ([("MatMul", ["x", "w"], ["a"]), ("MatMul", ["a", "a"], ["y"])], {}, "in this order"),
    ([("MatMul", ["x", "i"], ["y"])], {}, "dtype int64"),
    ([("MatMul", ["x", "b"], ["y"])], {}, "node MatMul has weights of shape (2,), expected two dimensions"),
    ([("MatMul", ["x", "wt"], ["a"]), ("MatMul", ["a", "wt"], ["y"])], {}, "gives 2 columns"),
    *(
        (then("Cast", TO[kind]), {}, f"expected a Cast to FLOAT or DOUBLE, got {kind}")
        for kind in TO if kind not in ("FLOAT", "DOUBLE")
    ),
    ([("Relu", ["x"], ["a"]), ("Cast", ["a"], ["y"], TO["INT64"])], {"gives": "INT64"}, "got INT64"),
    ([("Relu", ["x"], ["t"]), ("Cast", ["t"], ["a"], TO["FLOAT"]), GEMM], {"kind": "INT32"}, "as its input is INT32"),
    ([("Tanh", ["x"], ["t"]), ("Cast", ["t"], ["a"], TO["FLOAT"]), GEMM], {"kind": "FLOAT16"}, "its input is FLOAT16"),
    (then("Cast", TO["FLOAT"]), {"kind": "STRING"}, "its input 'x' is of type STRING, expected one of FLOAT, DOUBLE"),
    (then("Dropout", {}, "one", "true"), {}, "is Dropout without attributes; expected one without training_mode"),
    ([("Dropout", ["x"], ["a", "y"])], {"gives": "BOOL"}, "its output is not the result of the last node"),
    *((then("Flatten", {"axis": axis}), {}, "expected axis 1 of (N, ...)") for axis in (0, 2, -2)),
    (then("Flatten", {"axis": 2}), {"shape": ["N", 1, 3]}, "got an input of 3 dimensions"),
    ([("Relu", ["x"], ["y"])], {"shape": ["N", 1, 3]}, "its output has 3 dimensions, expected 2"),
    ([("MatMul", ["x", "wt"], ["y"])], {"shape": ["N", 1, 3]}, "expected 2 dimensions of its input, got 3"),
    (then("Softmax", {"axis": 1}), {"shape": ["N", 1, 3]}, "expected 2 dimensions of its input, got 3"),
    ([("Relu", ["x"], ["y"])], {"opset": 6}, "its opset is 6, expected 7 or later; onnx.version_converter"),
    (then("Gelu", {"domain": "com.microsoft"}), {}, "expected ONNX's own operators, got one of com.microsoft"),
    *(
        ([("Gemm", ["x", "w", name], ["y"], {"transB": 1})], {}, f"Gemm has a constant of shape {shape}, expected (2,)")
        for name, shape in (("column", "(2, 1)"), ("w", "(2, 3)"), ("c", "(3,)"))
    ),
    *(
        ([("MatMul", ["x", "wt"], ["a"]), ("Add", ["a", name], ["y"])], {},
         f"node Add has a constant of shape {shape}, expected (2,)")
        for name, shape in (("column", "(2, 1)"), ("cube", "(1, 1, 2)"), ("c", "(3,)"))
    ),
    *(
        ([("Sub", ["x", name], ["t"]), ("Div", ["t", "one"], ["a"]), GEMM], {}, f"shape {shape}, expected (3,)")
        for name, shape in (("column", "(2, 1)"), ("b", "(2,)"))
    ),
    ([("Sub", ["x", "one"], ["a"]), ("Div", ["a", "one"], ["y"])], {}, "columns of its input is not declared"),
    ([("Sub", ["x", "c"], ["t"]), ("Div", ["t", "zero"], ["a"]), GEMM], {}, "scale is 0.0"),
    ([("Sub", ["c", "x"], ["t"]), ("Div", ["t", "c"], ["a"]), GEMM], {}, "in this order"),
    (then("LayerNormalization", {}, "column"), {}, "shape (2, 1), expected (3,)"),
    (then("LayerNormalization", {"axis": 0}, "w"), {}, "expected the last axis"),
    *((then(name, {}, "c"), {}, f"is {name} without attributes") for name in ("Add", "Sub", "Div", "Pow")),
    (then("Reshape", {}, "shape"), {}, "is Reshape"),
    *((then(name, {}), {}, f"is {name}") for name in ("Clip", "Squeeze", "Transpose", "LogSoftmax", "Ceil")),
]  # fmt: skip


@pytest.mark.parametrize("nodes, options, message", REFUSED, ids=[f"{case[0][0][0]}: {case[2]}" for case in REFUSED])
def test_graphs_that_are_no_mlp(tmp_path, nodes, options, message):
    more = {
        "c": SQUARE[0], "cube": np.ones((1, 1, 2), np.float32), "zero": np.zeros(3, np.float32),
        "true": np.array(True), "shape": np.array([3, 2]), "wt": W.T, "b": B, **ODD,
    }  # fmt: skip
    proto = graph(nodes, {"w": W, **more}, **options)
    (tmp_path / "m.onnx").write_bytes(proto.SerializeToString())
    with pytest.raises(fm.ModelFileError, match=re.escape(message)):
        fm.import_onnx(tmp_path / "m.onnx")


def test_two_inputs(tmp_path):
    proto = graph([("Add", ["x", "z"], ["y"])], {}, inputs=("x", "z"))
    (tmp_path / "m.onnx").write_bytes(proto.SerializeToString())
    with pytest.raises(fm.ModelFileError, match="2 inputs and 1 outputs"):
        fm.import_onnx(tmp_path / "m.onnx")


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
