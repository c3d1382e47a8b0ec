"""Conversion of an ONNX graph to modules, for graphs that are chains: each node consumes the result of the last one."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, NoReturn

import numpy as np

from ..modules import Activation, LayerNorm, Linear, Module, Normalize, Softmax, activation_from_name
from ..modules.activations import activation_types
from ..modules.lowering import describes
from ..modules.scale import Scale

__all__ = ["Chain"]

_FIRST_OPSET = 7  # earlier opsets control broadcasting and Dropout by attributes
_OWN_DOMAINS = ("", "ai.onnx")
_INPUTS = (
    "FLOAT", "DOUBLE", "FLOAT16", "BFLOAT16", "BOOL",
    "INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64",
)  # fmt: skip
_COMPUTES = ("FLOAT", "DOUBLE")


class _Step(NamedTuple):
    """Node, name of the value that it consumes, and its attributes."""

    node: Any
    value: str
    attributes: Mapping[str, Any]

    @property
    def name(self) -> str:
        return _name(self.node)

    def refuse(self, expected: str) -> NoReturn:
        attributes = f"with {dict(self.attributes)}" if self.attributes else "without attributes"
        raise ValueError(f"node {self.node.name or '(unnamed)'} is {self.node.op_type} {attributes}; {expected}.")


class Chain:
    """Reader that converts a graph node by node.

    Parameters
    ----------
    onnx : module
    proto : onnx.ModelProto
        A model that passes the onnx checker.

    Raises
    ------
    ValueError
        By the constructor or `modules`, if the graph is not a chain or no module computes a node.
    """

    def __init__(self, onnx: Any, proto: Any) -> None:
        self._onnx = onnx
        graph = proto.graph
        opset = max((one.version for one in proto.opset_import if one.domain in _OWN_DOMAINS), default=1)
        if opset < _FIRST_OPSET:
            raise ValueError(
                f"its opset is {opset}, expected {_FIRST_OPSET} or later; onnx.version_converter can convert it."
            )
        self._constants = {tensor.name: self._array(tensor) for tensor in graph.initializer}
        inputs = [value for value in graph.input if value.name not in self._constants]
        if len(inputs) != 1 or len(graph.output) != 1:
            raise ValueError(f"it has {len(inputs)} inputs and {len(graph.output)} outputs, expected one of each.")
        self._output = graph.output[0].name
        self._nodes = [node for node in graph.node if not self._is_constant(node)]
        self._found: list[Module] = []
        # Last value of the chain: name, type, number of dimensions, and number of columns if known.
        self._now = inputs[0].name
        tensor_type = inputs[0].type.tensor_type
        self._kind = self._name_of(tensor_type.elem_type)
        if self._kind not in _INPUTS:
            raise ValueError(f"its input {self._now!r} is of type {self._kind}, expected one of {', '.join(_INPUTS)}.")
        shape = [dim.dim_value or None for dim in tensor_type.shape.dim]
        self._inputs = shape if tensor_type.HasField("shape") else [None, None]
        self._rank, self._width = len(self._inputs), self._inputs[1] if len(self._inputs) == 2 else None

    def modules(self) -> list[Module]:
        """Return the modules of the chain."""
        while self._nodes:
            node = self._nodes.pop(0)
            if self._now not in node.input:
                raise ValueError(f"{_name(node)} does not follow the one before; expected a chain.")
            attributes = {one.name: self._onnx.helper.get_attribute_value(one) for one in node.attribute}
            step = _Step(node, self._now, attributes)
            self._now = node.output[0]
            self._check(step)
            _READERS.get(node.op_type, Chain._activation)(self, step)
        if self._now != self._output:
            raise ValueError("its output is not the result of the last node; expected a chain.")
        if self._rank != 2:
            raise ValueError(f"its output has {self._rank} dimensions, expected 2.")
        return self._found

    def _check(self, step: _Step) -> None:
        operator, activations = step.node.op_type, _activations()
        if step.node.domain not in _OWN_DOMAINS:
            step.refuse(f"expected ONNX's own operators, got one of {step.node.domain}")
        if operator not in (*_READERS, *activations):
            step.refuse(f"expected one of {', '.join((*_READERS, *activations))}")
        if operator not in _MOVES and self._kind not in _COMPUTES:
            step.refuse(f"expected a Cast to FLOAT before it, as its input is {self._kind}")
        if operator not in _MOVES and operator not in activations and self._rank != 2:
            step.refuse(f"expected 2 dimensions of its input, got {self._rank}")

    # ---------------------------------------------------------------------------------- constants

    def _array(self, tensor: Any) -> np.ndarray:
        try:
            array: np.ndarray = self._onnx.numpy_helper.to_array(tensor)
        except Exception as error:  # an unknown type, external data, or too few bytes
            raise ValueError(
                f"the constant {tensor.name!r} cannot be read ({type(error).__name__}: {error})."
            ) from error
        return array

    def _is_constant(self, node: Any) -> bool:
        """Whether a node is a constant, which is then stored; Identity of a constant is a shared parameter."""
        if node.op_type == "Identity" and node.input and node.input[0] in self._constants:
            self._constants[node.output[0]] = self._constants[node.input[0]]
            return True
        if node.op_type != "Constant" or not node.attribute:
            return False
        name, value = node.attribute[0].name, self._onnx.helper.get_attribute_value(node.attribute[0])
        if name == "value":
            self._constants[node.output[0]] = self._array(value)
        elif name in ("value_float", "value_floats"):
            self._constants[node.output[0]] = np.asarray(value, np.float32)
        elif name in ("value_int", "value_ints"):
            self._constants[node.output[0]] = np.asarray(value, np.int64)
        return node.output[0] in self._constants

    def _constant(self, name: str) -> np.ndarray:
        if name not in self._constants:
            raise ValueError(f"{name!r} is computed, expected a constant.")
        array = self._constants[name]
        if array.dtype not in (np.float32, np.float64):
            raise ValueError(f"{name!r} has dtype {array.dtype}, expected float32 or float64.")
        return array

    def _other(self, node: Any, value: str, first: bool = False) -> np.ndarray:
        """Return the constant operand of a node beside ``value``; with ``first`` the constant must be the second."""
        if len(node.input) < 2 or (first and node.input[0] != value) or node.input[0] == node.input[1]:
            raise ValueError(f"{_name(node)} does not take its inputs and a constant in this order.")
        return self._constant(node.input[1] if node.input[0] == value else node.input[0])

    def _following(self, operator: str, *inputs: str) -> Any:
        """Pop and return the next node if it has this operator and all these inputs, else return None."""
        node = self._nodes[0] if self._nodes else None
        if node is None or node.op_type != operator or node.domain not in _OWN_DOMAINS:
            return None
        if not set(inputs) <= set(node.input):
            return None
        self._now = node.output[0]
        return self._nodes.pop(0)

    def _columns(self, *arrays: np.ndarray) -> int:
        """Return the number of columns of the value, from the next product, its declaration or these constants."""
        for node in self._nodes:
            weight = self._constants.get(node.input[1]) if node.op_type in ("Gemm", "MatMul") else None
            if weight is not None and weight.ndim == 2:
                turned = any(one.name == "transB" and one.i for one in node.attribute)
                return int(weight.shape[1 if turned else 0])
        width = max(array.size for array in arrays) if self._width is None else self._width
        if self._width is None and width == 1:
            raise ValueError("the number of columns of its input is not declared; expected (N, features).")
        return width

    # ------------------------------------------------------------------------------------ operators

    def _identity(self, step: _Step) -> None:
        pass

    def _cast(self, step: _Step) -> None:
        kind = self._name_of(step.attributes["to"])
        if kind not in _COMPUTES:  # the Cast would round the values
            step.refuse(f"expected a Cast to {' or '.join(_COMPUTES)}, got {kind}")
        self._kind = kind

    def _dropout(self, step: _Step) -> None:
        name = step.node.input[2] if len(step.node.input) > 2 else ""
        training = self._constants.get(name)
        if name and (training is None or training.any()):
            step.refuse("expected one without training_mode")

    def _flatten(self, step: _Step) -> None:
        if self._rank < 2 or step.attributes.get("axis", 1) not in (1, 1 - self._rank):
            step.refuse(f"expected axis 1 of (N, ...), got an input of {self._rank} dimensions")
        if self._rank > 2:
            known = [size for size in self._inputs[1:] if size is not None]
            self._width = math.prod(known) if len(known) == self._rank - 1 else None
        self._rank = 2

    def _activation(self, step: _Step) -> None:
        self._found.append(_activation_from(step))

    def _sigmoid(self, step: _Step) -> None:
        if self._following("Mul", step.value, step.node.output[0]) is not None:
            self._found.append(activation_from_name("silu"))
        else:
            self._activation(step)

    def _softmax(self, step: _Step) -> None:
        self._require_last_axis(step)
        self._found.append(Softmax())

    def _layer_norm(self, step: _Step) -> None:
        self._require_last_axis(step)
        weight, bias = self._other(step.node, step.value, first=True), self._third(step)
        bias = np.zeros_like(weight) if bias is None else bias
        width = self._columns(weight, bias)
        state = {"weight": _row(weight, width, step.name), "bias": _row(bias, width, step.name)}
        norm = LayerNorm(width, step.attributes.get("epsilon", 1e-5), dtype=weight.dtype)
        norm.load_state_dict(state)
        self._found.append(norm)

    @staticmethod
    def _require_last_axis(step: _Step) -> None:
        if step.attributes.get("axis", -1) not in (-1, 1):
            step.refuse("expected the last axis")

    def _sub(self, step: _Step) -> None:
        division = self._following("Div", step.node.output[0])
        if division is None:
            step.refuse("expected a Div after it")
        mean = self._other(step.node, step.value, first=True)
        scale = self._other(division, step.node.output[0], first=True)
        width = self._columns(mean, scale)
        rows = _row(mean, width, step.name), _row(scale, width, _name(division))
        self._found.append(Normalize(*rows, dtype=mean.dtype))

    def _mul(self, step: _Step) -> None:
        weight = self._other(step.node, step.value)
        layer = Scale(self._columns(weight), dtype=weight.dtype)
        layer.load_state_dict({"weight": _row(weight, layer.features, step.name)})
        self._found.append(layer)

    def _gemm(self, step: _Step) -> None:
        if step.attributes.get("transA", 0):
            step.refuse("expected transA 0")
        weight = _scaled(self._other(step.node, step.value, first=True), step.attributes.get("alpha", 1.0))
        bias = self._third(step)
        bias = None if bias is None else _scaled(bias, step.attributes.get("beta", 1.0))
        self._linear(weight if step.attributes.get("transB", 0) else weight.T, bias, step.name)

    def _matmul(self, step: _Step) -> None:
        weight = self._other(step.node, step.value, first=True).T
        addition = self._following("Add", step.node.output[0])
        bias = None if addition is None else self._other(addition, step.node.output[0])
        self._linear(weight, bias, step.name if addition is None else _name(addition))

    def _linear(self, weight: np.ndarray, bias: np.ndarray | None, name: str) -> None:
        if weight.ndim != 2:
            raise ValueError(f"{name} has weights of shape {weight.shape}, expected two dimensions.")
        outputs, inputs = weight.shape
        shape = {"in_features": inputs, "out_features": outputs, "dtype": weight.dtype}
        layer = Linear.from_config({**shape, "bias": bias is not None})
        state = {"weight": weight} if bias is None else {"weight": weight, "bias": _row(bias, outputs, name)}
        layer.load_state_dict(state)
        self._found.append(layer)
        self._width = outputs

    def _third(self, step: _Step) -> np.ndarray | None:
        """Return the constant of the optional third input, or None."""
        return self._constant(step.node.input[2]) if len(step.node.input) > 2 and step.node.input[2] else None

    def _name_of(self, kind: int) -> str:
        return str(self._onnx.TensorProto.DataType.Name(kind))


def _activations() -> dict[str, type[Activation]]:
    """operator: the activation that computes it, of inputs of any shape."""
    return {kind.onnx[0]: kind for kind in activation_types() if kind.onnx is not None and describes(kind, "onnx")}


def _activation_from(step: _Step) -> Module:
    kind = _activations()[step.node.op_type]
    assert kind.onnx is not None
    for name, expected in kind.onnx_expects.items():
        seen = step.attributes.get(name, expected)
        if not math.isclose(seen, expected, rel_tol=1e-6):
            step.refuse(f"expected {name} {expected}")
    given = {
        ours: step.attributes[theirs].decode()
        if isinstance(step.attributes[theirs], bytes)
        else step.attributes[theirs]
        for theirs, ours in kind.onnx[2].items()
        if theirs in step.attributes
    }
    return kind(**given)


def _name(node: Any) -> str:
    return f"node {node.name or node.op_type}"


def _row(array: np.ndarray, width: int, name: str) -> np.ndarray:
    """Broadcast a constant to rows of ``width`` numbers; raise ValueError if it varies by row."""
    if array.ndim > 2 or array.shape[:-1] not in ((), (1,)) or array.shape[-1:] not in ((), (1,), (width,)):
        raise ValueError(f"{name} has a constant of shape {array.shape}, expected ({width},).")
    return np.broadcast_to(array.reshape(-1), (width,))


def _scaled(array: np.ndarray, factor: float) -> np.ndarray:
    """Multiply a constant by Gemm's alpha or beta, in the constant's dtype."""
    with np.errstate(all="ignore"):  # load_state_dict reports values that are not finite
        return array if factor == 1 else array * array.dtype.type(factor)


_READERS: dict[str, Callable[[Chain, _Step], None]] = {
    "Gemm": Chain._gemm,
    "MatMul": Chain._matmul,
    "Sigmoid": Chain._sigmoid,
    "Softmax": Chain._softmax,
    "LayerNormalization": Chain._layer_norm,
    "Sub": Chain._sub,
    "Mul": Chain._mul,
    "Identity": Chain._identity,
    "Dropout": Chain._dropout,
    "Flatten": Chain._flatten,
    "Cast": Chain._cast,
}
_MOVES = ("Identity", "Dropout", "Flatten", "Cast")  # operators that compute nothing
