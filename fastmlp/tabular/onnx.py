"""Export of fitted estimators for tables to ONNX: the encoder, all nets and their mean in one graph."""

from __future__ import annotations

import json
import os
from typing import Any

import numpy as np

from .. import __version__
from .._common.installed import library
from .._common.validation import Array
from ..exchange.onnx import IR_VERSION, OPSET, Graph
from ..io.files import atomic_write
from ..modules import Module
from ..modules.lowering import iter_layers
from .encoder import ColumnEncoder
from .encodings import DENSE, LARGEST, CategoryEncoding, NumberEncoding, refuse_dates
from .networks import reads_positions

__all__ = ["write_onnx"]

_ML = "ai.onnx.ml"
_ML_OPSET = 4


def write_onnx(
    path: str | os.PathLike[str],
    encoder: ColumnEncoder,
    nets: list[Module],
    *,
    classes: Array | None = None,
    temperature: float = 1.0,
    scale: Array | None = None,
    offset: Array | None = None,
) -> None:
    """Write an ensemble as one ONNX file, see `TabularClassifier.export_onnx`.

    Parameters
    ----------
    path : path-like
    encoder : ColumnEncoder
    nets : list of Module
    classes : ndarray, optional
        Labels of a classification.
    temperature : float
        Temperature of the probabilities.
    scale, offset : ndarray of shape (O,), optional
        Factor and summand of the outputs of a regression.
    """
    onnx = library("onnx", 'pip install "fastmlp[onnx]"')
    ensemble = _Ensemble(onnx)
    inputs = ensemble.encode(encoder, reads_positions(nets[0]))
    outputs = [ensemble.net(net, inputs, classes is not None) for net in nets]
    mean = ensemble.node("Mean", outputs)
    helper, kinds = onnx.helper, onnx.TensorProto
    if classes is None:
        wide = ensemble.node("Cast", [mean], to=kinds.DOUBLE)
        scaled = ensemble.node("Mul", [wide, ensemble.constant(scale)])
        ensemble.node("Add", [scaled, ensemble.constant(offset)], out="prediction")
        width = len(np.asarray(scale))
        results = [helper.make_tensor_value_info("prediction", kinds.DOUBLE, ["N", width])]
    else:
        results = ensemble.answers(mean, classes, temperature)
    proto = helper.make_model(
        helper.make_graph(ensemble.nodes, "fastmlp", ensemble.inputs, results, ensemble.tensors),
        producer_name="fastmlp", producer_version=__version__, ir_version=IR_VERSION,
        opset_imports=[helper.make_opsetid("", OPSET), helper.make_opsetid(_ML, _ML_OPSET)],
    )  # fmt: skip
    helper.set_model_props(proto, {"columns": json.dumps(list(map(str, encoder.column_names())))})
    onnx.checker.check_model(proto, full_check=True)
    with atomic_write(path) as stream:
        stream.write(proto.SerializeToString(deterministic=True))


class _Ensemble:
    """Nodes of an ensemble's graph."""

    def __init__(self, onnx: Any) -> None:
        self._onnx = onnx
        self.inputs: list[Any] = []
        self.nodes: list[Any] = []
        self.tensors: list[Any] = []

    def node(self, operator: str, of: list[str], out: str | None = None, domain: str = "", **attributes: Any) -> str:
        """Append a node, and return the name of its output."""
        out = out or f"e{len(self.nodes)}"
        self.nodes.append(self._onnx.helper.make_node(operator, of, [out], domain=domain, **attributes))
        return out

    def constant(self, array: Any, dtype: Any = np.float64) -> str:
        """Add a constant, and return its name."""
        name = f"k{len(self.tensors)}"
        values = np.ascontiguousarray(array, dtype)
        self.tensors.append(self._onnx.numpy_helper.from_array(values, name))
        return name

    def encode(self, encoder: ColumnEncoder, positions: bool) -> str:
        """Append the nodes of the encoder, and return the name of the inputs of the nets."""
        fewest = encoder.fewest_coded_ if positions else None
        parts: list[tuple[int, str]] = []  # kind of the columns, and their name
        for name, encoding in zip(encoder.column_names(), encoder.encodings_, strict=True):
            kept = refuse_dates(name, encoding, "ONNX")
            kinds = self._onnx.TensorProto
            kind = kinds.DOUBLE if isinstance(kept, NumberEncoding) else kinds.STRING
            self.inputs.append(self._onnx.helper.make_tensor_value_info(str(name), kind, ["N", 1]))
            if not kept.width:
                continue
            if isinstance(kept, NumberEncoding):
                parts += self._number(str(name), kept, fewest)
            else:
                parts += self._category(str(name), kept, fewest)
        parts.sort(key=lambda part: part[0])  # stable, as the encoder
        names = [name for _, name in parts]
        if not parts or (positions and parts[0][0] != DENSE):
            names.insert(0, self._zeros(str(encoder.column_names()[0])))
        wide = self.node("Concat", names, axis=1) if len(names) > 1 else names[0]
        return self.node("Cast", [wide], to=self._onnx.TensorProto.FLOAT)

    def _zeros(self, name: str) -> str:
        """Return a column of zeros with the rows of an input."""
        shape = self.node("Shape", [name])
        zero = self._onnx.helper.make_tensor("value", self._onnx.TensorProto.DOUBLE, [1], [0.0])
        return self.node("ConstantOfShape", [shape], value=zero)

    def _number(self, x: str, encoding: NumberEncoding, fewest: int | None) -> list[tuple[int, str]]:
        missing = self.node("IsNaN", [x])
        x = self.node("Where", [missing, self.constant(encoding.median), x])
        found: list[tuple[int, str]] = []
        if encoding.factor:
            z = self.node(
                "Mul", [self.node("Sub", [x, self.constant(encoding.median)]), self.constant(encoding.factor)]
            )
            z = self.node("Clip", [z, self.constant(-LARGEST), self.constant(LARGEST)])
            third = self.node("Div", [z, self.constant(3.0)])
            square = self.node("Add", [self.node("Mul", [third, third]), self.constant(1.0)])
            found.append((DENSE, self.node("Div", [z, self.node("Sqrt", [square])])))
        if encoding.missing:
            found.append((DENSE, self.node("Cast", [missing], to=self._onnx.TensorProto.DOUBLE)))
        if encoding.edges:
            edges = np.array(encoding.edges)
            above = self.node("Sub", [x, self.constant(edges[:-1])])
            code = self.node("Div", [above, self.constant(np.diff(edges))])
            code = self.node("Clip", [code, self.constant(0.0), self.constant(1.0)])
            kind = encoding.inputs(fewest)[-1].kind if fewest is not None else DENSE
            if kind != DENSE:  # the position is the sum of the code (1, ..., 1, f, 0, ..., 0)
                code = self.node("ReduceSum", [code, self.constant([1], np.int64)], keepdims=1)
            found.append((kind, code))
        return found

    def _category(self, x: str, encoding: CategoryEncoding, fewest: int | None) -> list[tuple[int, str]]:
        other = len(encoding.levels) if encoding.rare else -1
        absent = len(encoding.levels) + encoding.rare if encoding.missing else -1
        rows = [encoding.inputs_of(code, fewest) for code in range(len(encoding.levels))]
        rows += [encoding.inputs_of(absent, fewest), encoding.inputs_of(other, fewest)]
        kind = DENSE if fewest is None else encoding.inputs(fewest)[0].kind
        table = np.array(rows)  # of each level, of missing values and of others
        keys = self._onnx.helper.make_tensor(
            "keys_tensor", self._onnx.TensorProto.STRING, [len(encoding.levels) + 1],
            [level.encode() for level in (*encoding.levels, "")],
        )  # fmt: skip
        places = np.arange(len(encoding.levels) + 1)
        place = self.node(
            "LabelEncoder", [x], domain=_ML, keys_tensor=keys,
            values_tensor=self._onnx.numpy_helper.from_array(places, "values_tensor"),
            default_tensor=self._onnx.numpy_helper.from_array(np.array([len(places)]), "default_tensor"),
        )  # fmt: skip
        flat = self.node("Reshape", [place, self.constant([-1], np.int64)])
        return [(kind, self.node("Gather", [self.constant(table), flat], axis=0))]

    def net(self, net: Module, inputs: str, softmax: bool) -> str:
        """Append the nodes of a net, and return the name of its outputs or probabilities."""
        assert net.dtype is not None
        graph = Graph(self._onnx, net.dtype, self.nodes, self.tensors, inputs)
        for _, module in iter_layers(net, evaluation=True):
            graph.add(module)
        return self.node("Softmax", [graph.now], axis=-1) if softmax else graph.now

    def answers(self, mean: str, classes: Array, temperature: float) -> list[Any]:
        """Append labels and probabilities, and return the descriptions of these outputs."""
        helper, kinds = self._onnx.helper, self._onnx.TensorProto
        if temperature == 1.0:
            self.node("Identity", [mean], out="probabilities")
        else:
            least = self.constant(np.float32(1e-30), np.float32)
            logs = self.node("Log", [self.node("Max", [mean, least])])
            scaled = self.node("Div", [logs, self.constant(np.float32(temperature), np.float32)])
            self.node("Softmax", [scaled], out="probabilities", axis=-1)
        best = self.node("ArgMax", ["probabilities"], axis=1, keepdims=0)
        if np.asarray(classes).dtype.kind in "iub":
            labels, kind = self.constant(np.asarray(classes), np.int64), kinds.INT64
        else:
            labels, kind = f"k{len(self.tensors)}", kinds.STRING
            texts = [str(label).encode() for label in classes.tolist()]
            self.tensors.append(helper.make_tensor(labels, kinds.STRING, [len(texts)], texts))
        self.node("Gather", [labels, best], out="label", axis=0)
        return [
            helper.make_tensor_value_info("label", kind, ["N"]),
            helper.make_tensor_value_info("probabilities", kinds.FLOAT, ["N", len(classes)]),
        ]
