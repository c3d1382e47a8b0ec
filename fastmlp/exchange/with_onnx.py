"""ONNX: models out to a file for any runtime, and MLPs in from one."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from .. import __version__
from ..errors import ModelFileError
from ..files import atomic_write
from ..frozen import leaves, require_model
from ..modules import (
    ELU,
    GELU,
    LayerNorm,
    LeakyReLU,
    Linear,
    Module,
    Normalize,
    Sequential,
    SiLU,
    Softmax,
)  # fmt: skip
from . import library
from .onnx_nodes import PLAIN, nodes_of

__all__ = ["export_onnx", "import_onnx"]

OPSET = 20  # the first with Gelu
IR_VERSION = 9  # of the same time


def _onnx() -> Any:
    return library("onnx", 'pip install "fastmlp[onnx]"')


def export_onnx(model: Module, path: str | os.PathLike[str]) -> None:
    """Write a model as an ONNX graph from ``x`` (N, I) to ``y`` (N, O), N being free.

    It is what the model computes in evaluation, its Normalize included; x is in the model's dtype. ``task`` and
    ``classes`` are in the file's metadata as JSON. The opset is 20. ONNX keeps slopes and eps in float32.

    Parameters
    ----------
    model : Module
    path : path-like
        The file, which appears whole or not at all.

    Raises
    ------
    ValueError
        If the model has a module of another maker, or no width or dtype.
    BackendError
        If onnx is not installed.
    OSError
        If the file cannot be written.
    """
    require_model(model, "export_onnx", sized=True)
    assert model.dtype is not None
    onnx = _onnx()
    graph = _Graph(onnx, model.dtype)
    for module in leaves(model):
        graph.add(module)
    helper, kind = onnx.helper, onnx.helper.np_dtype_to_tensor_dtype(model.dtype)
    graph.node("Identity", out="y")
    proto = helper.make_model(
        helper.make_graph(
            graph.nodes, "fastmlp",
            [helper.make_tensor_value_info("x", kind, ["N", model.in_width])],
            [helper.make_tensor_value_info("y", kind, ["N", model.out_width])],
            graph.tensors,
        ),
        producer_name="fastmlp", producer_version=__version__, ir_version=IR_VERSION,
        opset_imports=[helper.make_opsetid("", OPSET)],
    )  # fmt: skip
    classes = None if model.classes is None else np.asarray(model.classes).tolist()
    helper.set_model_props(proto, {"task": json.dumps(model.task), "classes": json.dumps(classes)})
    onnx.checker.check_model(proto, full_check=True)
    with atomic_write(path) as stream:
        stream.write(proto.SerializeToString(deterministic=True))


class _Graph:
    """A chain of nodes; ``now`` is the name of what it has come to."""

    def __init__(self, onnx: Any, dtype: np.dtype[Any]) -> None:
        self._onnx, self._dtype = onnx, dtype
        self.nodes: list[Any] = []
        self.tensors: list[Any] = []
        self.now = "x"

    def node(self, operator: str, *more: str, out: str | None = None, **attributes: Any) -> str:
        """Append operator(now, more ...)."""
        out = out or f"t{len(self.nodes)}"
        self.nodes.append(self._onnx.helper.make_node(operator, [self.now, *more], [out], **attributes))
        self.now = out
        return out

    def constant(self, array: Any) -> str:
        """The name of a constant."""
        name = f"c{len(self.tensors)}"
        self.tensors.append(self._onnx.numpy_helper.from_array(np.ascontiguousarray(array, self._dtype), name))
        return name

    def add(self, module: Module) -> None:
        """Append what a module computes."""
        entered = self.now
        for node in nodes_of(module):
            more = [entered] if node.with_input else [self.constant(array) for array in node.constants]
            self.node(node.operator, *more, **node.attributes)


_FROM_PLAIN = {operator: kind for kind, operator in PLAIN.items()}
_NOTHING = ("Identity", "Dropout", "Flatten", "Cast")  # at (N, I) and in inference


def import_onnx(path: str | os.PathLike[str]) -> Sequential:
    """A model from an ONNX file that holds an MLP.

    Parameters
    ----------
    path : path-like
        A graph that is one chain of Gemm, or MatMul and Add; Relu, LeakyRelu, Elu, Tanh, Sigmoid, Softplus, Gelu, x
        Sigmoid(x); LayerNormalization; Softmax over the last axis; Sub and Div of the inputs by constants (Normalize);
        Identity, Dropout, Flatten and Cast, which are left out. Weights in float32 or float64.

    Returns
    -------
    Sequential
        On the current backend, in evaluation mode, with ``task`` and ``classes`` if fastmlp wrote the file.

    Raises
    ------
    ModelFileError
        If the file is no ONNX, or has an operator that is not listed; it is named.
    BackendError
        If onnx is not installed.
    OSError
        If it cannot be read.
    """
    onnx = _onnx()
    with open(path, "rb"):  # raises what is wrong with the file itself
        pass
    try:
        proto = onnx.load(path)
        onnx.checker.check_model(proto)
    except Exception as error:  # protobuf's and onnx's own kinds
        text = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ModelFileError(f"{path} is not a valid ONNX file ({text[:200]}).") from error
    try:
        model = Sequential(*_Chain(onnx, proto.graph).modules())
    except ValueError as error:
        raise ModelFileError(f"{path} is no MLP that fastmlp can be: {error}") from error
    props = {prop.key: prop.value for prop in proto.metadata_props}
    if proto.producer_name == "fastmlp":
        try:
            model.task, model.classes = json.loads(props["task"]), json.loads(props["classes"])
        except (KeyError, ValueError) as error:
            raise ModelFileError(f"{path} is damaged: its task and classes cannot be read ({error}).") from error
    return model.eval()


class _Chain:
    """Reads a graph node by node; each takes the result of the one before, and constants."""

    def __init__(self, onnx: Any, graph: Any) -> None:
        self._onnx, self._graph = onnx, graph
        self._constants: dict[str, np.ndarray] = {}
        for tensor in graph.initializer:
            self._constants[tensor.name] = self._array(tensor)
        self._found: list[Module] = []
        self._dtype: np.dtype[Any] | None = None

    def _array(self, tensor: Any) -> np.ndarray:
        try:
            array: np.ndarray = self._onnx.numpy_helper.to_array(tensor)
        except Exception as error:  # a type that there is not, a file beside this one, too few bytes
            raise ValueError(
                f"the constant {tensor.name!r} cannot be read ({type(error).__name__}: {error})."
            ) from error
        return array

    def modules(self) -> list[Module]:
        """The modules of the chain."""
        inputs = [value.name for value in self._graph.input if value.name not in self._constants]
        if len(inputs) != 1 or len(self._graph.output) != 1:
            raise ValueError(
                f"it has {len(inputs)} inputs and {len(self._graph.output)} outputs, expected one of each."
            )
        now = inputs[0]
        nodes = list(self._graph.node)
        while nodes:
            node = nodes.pop(0)
            attributes = {a.name: self._onnx.helper.get_attribute_value(a) for a in node.attribute}
            if node.op_type == "Constant" and "value" in attributes:
                self._constants[node.output[0]] = self._array(attributes["value"])
                continue
            if now not in node.input:
                raise ValueError(f"node {node.name or node.op_type} does not follow the one before; expected a chain.")
            following = nodes[0] if nodes else None
            if node.op_type == "Sigmoid" and following is not None and following.op_type == "Mul":
                if sorted(following.input) == sorted([now, node.output[0]]):
                    self._found.append(SiLU())
                    now = nodes.pop(0).output[0]
                    continue
            if node.op_type == "MatMul" and following is not None and following.op_type == "Add":
                if node.output[0] in following.input:
                    self._linear(self._other(node, now, first=True).T, self._other(following, node.output[0]))
                    now = nodes.pop(0).output[0]
                    continue
            self._add(node, now, attributes, following)
            if node.op_type == "Sub" and following is not None and following.op_type == "Div":
                node = nodes.pop(0)
            now = node.output[0]
        if now != self._graph.output[0].name:
            raise ValueError("its output is not what the last node gives.")
        return self._found

    def _add(self, node: Any, now: str, attributes: Mapping[str, Any], following: Any) -> None:
        kind = node.op_type
        if kind in _FROM_PLAIN:
            self._found.append(_FROM_PLAIN[kind]())
        elif kind == "LeakyRelu":
            self._found.append(LeakyReLU(attributes.get("alpha", 0.01)))
        elif kind == "Elu":
            self._found.append(ELU(attributes.get("alpha", 1.0)))
        elif kind == "Gelu":
            self._found.append(GELU(attributes.get("approximate", b"none").decode()))
        elif kind == "Softmax" and attributes.get("axis", -1) in (-1, 1):
            self._found.append(Softmax())
        elif kind == "Gemm" and not attributes.get("transA", 0):
            weight = _scaled(self._other(node, now, first=True), attributes.get("alpha", 1.0))
            bias = self._constant(node.input[2]) if len(node.input) > 2 and node.input[2] else None
            bias = None if bias is None else _scaled(bias, attributes.get("beta", 1.0))
            self._linear(weight if attributes.get("transB", 0) else weight.T, bias)
        elif kind == "MatMul":
            self._linear(self._other(node, now, first=True).T, None)
        elif kind == "LayerNormalization" and attributes.get("axis", -1) in (-1, 1):
            weight = self._constant(node.input[1])
            bias = self._constant(node.input[2]) if len(node.input) > 2 and node.input[2] else np.zeros_like(weight)
            norm = LayerNorm(len(weight), attributes.get("epsilon", 1e-5), dtype=weight.dtype)
            norm.load_state_dict({"weight": weight, "bias": bias})
            self._found.append(norm)
        elif kind == "Sub" and following is not None and following.op_type == "Div":
            mean, scale = self._other(node, now, first=True), self._other(following, node.output[0], first=True)
            mean, scale = np.broadcast_arrays(mean.reshape(-1), scale.reshape(-1))
            self._found.append(Normalize(mean, scale, dtype=mean.dtype))
        elif kind not in _NOTHING:
            raise ValueError(f"node {node.name or '(unnamed)'} is {kind} with {dict(attributes) or 'no attributes'}.")

    def _linear(self, weight: np.ndarray, bias: np.ndarray | None) -> None:
        if weight.ndim != 2:
            raise ValueError(f"a product has weights of shape {weight.shape}, expected two dimensions.")
        shape = {"in_features": weight.shape[1], "out_features": weight.shape[0], "dtype": weight.dtype}
        layer = Linear.from_config({**shape, "bias": bias is not None})
        state = {"weight": weight}
        if bias is not None:
            state["bias"] = np.broadcast_to(bias.reshape(-1), (weight.shape[0],))
        layer.load_state_dict(state)
        self._found.append(layer)

    def _other(self, node: Any, now: str, first: bool = False) -> np.ndarray:
        """The constant that a node takes beside ``now``, which may have to come first."""
        if len(node.input) < 2 or (first and node.input[0] != now) or node.input[0] == node.input[1]:
            raise ValueError(f"node {node.name or node.op_type} does not take its inputs and a constant in this order.")
        return self._constant(node.input[1] if node.input[0] == now else node.input[0])

    def _constant(self, name: str) -> np.ndarray:
        if name not in self._constants:
            raise ValueError(f"{name!r} is computed, expected a constant.")
        array = self._constants[name]
        if array.dtype not in (np.float32, np.float64):
            raise ValueError(f"{name!r} has dtype {array.dtype}, expected float32 or float64.")
        return array


def _scaled(array: np.ndarray, factor: float) -> np.ndarray:
    """Gemm's alpha or beta times a constant, in the constant's dtype."""
    with np.errstate(all="ignore"):  # what is not finite is not this function's business
        return array if factor == 1 else array * array.dtype.type(factor)
