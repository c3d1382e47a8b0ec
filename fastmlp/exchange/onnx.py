"""Export of models to ONNX, and import of MLPs (see `onnx_chain`)."""

from __future__ import annotations

import json
import os
from typing import Any

import numpy as np

from .. import __version__
from .._common.errors import ModelFileError
from .._common.installed import library
from ..inference.plan import require_model
from ..io.files import atomic_write
from ..modules import Module, Sequential
from ..modules.lowering import iter_layers
from ..modules.onnx_node import onnx_nodes
from .onnx_chain import Chain

__all__ = ["IR_VERSION", "OPSET", "Graph", "export_onnx", "import_onnx"]

OPSET = 20  # the first opset with Gelu
IR_VERSION = 9  # of the same release of ONNX


def _onnx() -> Any:
    return library("onnx", 'pip install "fastmlp[onnx]"')


def export_onnx(model: Module, path: str | os.PathLike[str]) -> None:
    """Write a model as an ONNX graph from ``x`` (N, I) to ``y`` (N, O), with free N.

    The graph computes the model in evaluation mode, Normalize included; x has the model's dtype. ``task`` and
    ``classes`` are stored as JSON in the metadata. The opset is 20. ONNX stores attributes such as alpha and epsilon in
    float32.

    Parameters
    ----------
    model : Module
    path : path-like
        The file, written whole or not at all.

    Raises
    ------
    ValueError
        If the model has a user-defined module, or no fixed width or dtype.
    BackendError
        If onnx is not installed.
    OSError
        If the file cannot be written.

    Examples
    --------
    >>> import fastmlp as fm
    >>> fm.export_onnx(fm.MLP(4, [8], 2), "model.onnx")  # doctest: +SKIP
    """
    require_model(model, "export_onnx", sized=True)
    assert model.dtype is not None
    onnx = _onnx()
    graph = Graph(onnx, model.dtype)
    for _, module in iter_layers(model, evaluation=True):
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


class Graph:
    """Chain of nodes; ``now`` is the name of its last value.

    Parameters
    ----------
    onnx : module
    dtype : numpy.dtype
        Dtype of the constants.
    nodes, tensors : list, optional
        Those of a larger graph, to which the chain is appended.
    now : str
        Name of the first value.
    """

    def __init__(
        self,
        onnx: Any,
        dtype: np.dtype[Any],
        nodes: list[Any] | None = None,
        tensors: list[Any] | None = None,
        now: str = "x",
    ) -> None:
        self._onnx, self._dtype, self.now = onnx, dtype, now
        self.nodes: list[Any] = [] if nodes is None else nodes
        self.tensors: list[Any] = [] if tensors is None else tensors

    def node(self, operator: str, *more: str, out: str | None = None, **attributes: Any) -> str:
        """Append the node operator(now, *more), and return the name of its output."""
        out = out or f"t{len(self.nodes)}"
        self.nodes.append(self._onnx.helper.make_node(operator, [self.now, *more], [out], **attributes))
        self.now = out
        return out

    def constant(self, array: Any) -> str:
        """Add a constant, and return its name."""
        name = f"c{len(self.tensors)}"
        self.tensors.append(self._onnx.numpy_helper.from_array(np.ascontiguousarray(array, self._dtype), name))
        return name

    def add(self, module: Module) -> None:
        """Append the nodes that compute a module."""
        entered = self.now
        for node in onnx_nodes(module):
            more = [entered] if node.with_input else [self.constant(array) for array in node.constants]
            self.node(node.operator, *more, **node.attributes)


def import_onnx(path: str | os.PathLike[str]) -> Sequential:
    """Read a multilayer perceptron from an ONNX file.

    Parameters
    ----------
    path : path-like
        A graph of opset 7 or later that is one chain of these nodes: Gemm, or MatMul and Add; the operators of
        fastmlp's activations, and x Sigmoid(x); LayerNormalization; Softmax over the last axis; Sub and Div by
        constants (Normalize); Mul by a constant (Scale). Identity, Dropout in inference mode, Flatten(1), and Cast of
        the input or between float32 and float64 are skipped. The model computes in the dtype of its weights, float32
        or float64.

    Returns
    -------
    Sequential
        On the current backend, in evaluation mode, with ``task`` and ``classes`` if fastmlp wrote the file.

    Raises
    ------
    ModelFileError
        If the file is not valid ONNX, or has a node of another form; the message names the node.
    BackendError
        If onnx is not installed.
    OSError
        If the file cannot be read.

    Examples
    --------
    >>> import fastmlp as fm
    >>> model = fm.import_onnx("model.onnx")  # doctest: +SKIP
    """
    onnx = _onnx()
    with open(path, "rb"):  # raises the OSError of a file that cannot be read
        pass
    try:
        proto = onnx.load(path)
        onnx.checker.check_model(proto)
    except Exception as error:  # protobuf and onnx raise exceptions of their own
        text = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ModelFileError(f"{path} is not a valid ONNX file ({text[:200]}).") from error
    try:
        model = Sequential(*Chain(onnx, proto).modules())
    except (MemoryError, ValueError) as error:
        raise ModelFileError(f"{path} is not an MLP that fastmlp supports: {error}") from error
    props = {prop.key: prop.value for prop in proto.metadata_props}
    if proto.producer_name == "fastmlp":
        try:
            model.task, model.classes = json.loads(props["task"]), json.loads(props["classes"])
        except (KeyError, ValueError) as error:
            raise ModelFileError(f"{path} is damaged: its task and classes cannot be read ({error}).") from error
    return model.eval()
