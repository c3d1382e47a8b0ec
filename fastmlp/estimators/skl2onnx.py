"""Converters that let skl2onnx export a Pipeline with a fastmlp estimator to one ONNX graph."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..modules import Activation, Module
from ..modules.lowering import iter_layers
from ..modules.onnx_node import onnx_nodes
from . import MLPClassifier, MLPRegressor
from .base import models_of
from .classifier import has_several_labels

__all__ = ["register_skl2onnx"]


def register_skl2onnx() -> None:
    """Register converters of `MLPClassifier` and `MLPRegressor` with skl2onnx; call once in a process.

    As for scikit-learn's estimators, the outputs are ``label`` and ``probabilities`` for a classifier and ``variable``
    (N, outputs) for a regressor. Labels (N,), or (N, labels) for multilabel targets, are strings or int64; bools and
    whole floats become int64. With the option ``nocl`` labels are class indices. Probabilities are those of
    `predict_proba`, with two columns for a single class too.

    The graph computes in float64 if its input is declared so, else in float32. Activations for which ONNX Runtime has
    float32 kernels only (``onnx_runtime_float64`` of their class is False) are computed in float32. ``layer_norm``
    needs opset 17, some activations need later ones ("gelu" opset 20); the conversion raises ValueError for an older
    opset, and for a zipmap with a single class.

    Raises
    ------
    ImportError
        If skl2onnx is not installed.

    Examples
    --------
    >>> import fastmlp as fm, numpy as np, skl2onnx
    >>> fm.register_skl2onnx()
    >>> X = np.array([[0.0], [1.0]] * 10, np.float32)
    >>> net = fm.MLPClassifier((4,), solver="lbfgs", random_state=0).fit(X, np.array([0, 1] * 10))
    >>> graph = skl2onnx.to_onnx(net, X[:1], options={id(net): {"zipmap": False}})
    >>> [output.name for output in graph.graph.output]
    ['label', 'probabilities']
    """
    from skl2onnx import update_registered_converter

    update_registered_converter(
        MLPClassifier,
        "FastmlpMLPClassifier",
        _classifier_shapes,
        _convert,
        options={"zipmap": [True, False, "columns"], "nocl": [True, False], "output_class_labels": [False, True]},
    )
    update_registered_converter(MLPRegressor, "FastmlpMLPRegressor", _regressor_shapes, _convert)


def _regressor_shapes(operator: Any) -> None:
    from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType

    kind = DoubleTensorType if isinstance(operator.inputs[0].type, DoubleTensorType) else FloatTensorType
    operator.outputs[0].type = kind([operator.inputs[0].get_first_dimension(), operator.raw_operator.n_outputs_])


def _classifier_shapes(operator: Any) -> None:
    from skl2onnx.common.data_types import Int64TensorType, StringTensorType

    net, rows = operator.raw_operator, operator.inputs[0].get_first_dimension()
    labels = _labels(operator.scope_inst, net)
    text = labels is not None and labels.dtype.kind == "O"
    shape = [rows, net.n_outputs_] if labels is None else [rows]
    operator.outputs[0].type = StringTensorType(shape) if text else Int64TensorType(shape)
    operator.outputs[1].type.shape = [rows, max(2, net.n_outputs_)]


def _labels(scope: Any, net: MLPClassifier) -> Any:
    """Return the labels by class index as str or int64 objects for ONNX, or None for multilabel targets."""
    classes = net.classes_
    options = scope.get_options(net, {"nocl": False, "zipmap": True})
    if has_several_labels(net):
        return None
    if len(classes) == 1 and options["zipmap"] is True:
        raise ValueError(
            f"A zipmap names one probability for each class, got two for the one class {classes.tolist()[0]!r}; "
            "convert with options={id(model): {'zipmap': False}}."
        )
    if options["nocl"]:
        return np.arange(len(classes))
    if all(isinstance(label, str) for label in classes):
        return np.array([str(label) for label in classes], object)
    whole = [int(label) for label in classes]
    if any(a != b for a, b in zip(whole, classes, strict=True)) or not -(2**63) <= min(whole) <= max(whole) < 2**63:
        raise ValueError(f"The classes are {classes.tolist()}; expected strings or numbers that int64 has.")
    return np.array(whole, np.int64)


def _convert(scope: Any, operator: Any, container: Any) -> None:
    from onnx import TensorProto
    from skl2onnx.common.data_types import DoubleTensorType

    net = operator.raw_operator
    wide = isinstance(operator.inputs[0].type, DoubleTensorType)
    number = TensorProto.DOUBLE if wide else TensorProto.FLOAT

    def node(kind: str, inputs: list[str], output: str | None = None, **attributes: Any) -> str:
        name = output or scope.get_unique_variable_name(kind.lower())
        container.add_node(kind, inputs, name, name=scope.get_unique_operator_name(kind), **attributes)
        return str(name)

    def constant(values: Any, kind: int = number) -> str:
        array = np.asarray(values)
        name = str(scope.get_unique_variable_name("constant"))
        container.add_initializer(name, kind, list(array.shape), array.ravel().tolist())
        return name

    def outputs_of(model: Module) -> str:
        x = node("Cast", [operator.inputs[0].full_name], to=number, op_version=9)
        for _, module in iter_layers(model, evaluation=True):
            entered = x
            narrow = wide and isinstance(module, Activation) and not module.onnx_runtime_float64
            for step in onnx_nodes(module):
                if step.version > container.target_opset:
                    raise ValueError(
                        f"{step.operator} of this net comes with opset {step.version}, got target_opset="
                        f"{container.target_opset}; give a newer step."
                    )
                more = [entered] if step.with_input else [constant(array) for array in step.constants]
                x = node("Cast", [x], to=TensorProto.FLOAT, op_version=9) if narrow else x
                x = node(step.operator, [x, *more], op_version=step.version, **step.attributes)
                x = node("Cast", [x], to=number, op_version=9) if narrow else x
        return x

    def values_of(x: str) -> str:
        """Return the values or probabilities of a net's outputs."""
        if isinstance(net, MLPRegressor):
            return node("Exp", [x], op_version=6) if net.out_activation_ == "exp" else x
        if net.out_activation_ == "softmax":
            version = 13 if container.target_opset >= 13 else 1  # equal for two dimensions
            return node("Softmax", [x], axis=1, op_version=version)
        found = node("Sigmoid", [x], op_version=6)
        if net.n_outputs_ > 1:
            return found
        one = constant(np.ones((1, 1)))
        return node("Concat", [node("Sub", [one, found], op_version=7), found], axis=1, op_version=4)

    of_nets = [values_of(outputs_of(model)) for model in models_of(net)]
    probability = of_nets[0]  # or the values of a regressor
    for other in of_nets[1:]:
        probability = node("Add", [probability, other], op_version=7)
    if len(of_nets) > 1:
        probability = node("Div", [probability, constant(np.full((1, 1), float(len(of_nets))))], op_version=7)
    outputs = [variable.full_name for variable in operator.outputs]
    if isinstance(net, MLPRegressor):
        node("Identity", [probability], outputs[0], op_version=1)
        return
    node("Identity", [probability], outputs[1], op_version=1)
    labels = _labels(scope, net)
    if labels is None:
        half = constant(np.full((1, 1), 0.5))
        node(
            "Cast", [node("Greater", [probability, half], op_version=9)], outputs[0], to=TensorProto.INT64, op_version=9
        )
        return
    best = node("ArgMax", [probability], axis=1, keepdims=0, op_version=1)
    if len(labels) == 1:  # both columns belong to the single class
        labels = labels.repeat(2)
    text = labels.dtype.kind == "O"
    name = str(scope.get_unique_variable_name("classes"))
    values = [label.encode() for label in labels] if text else list(labels)
    container.add_initializer(name, TensorProto.STRING if text else TensorProto.INT64, [len(labels)], values)
    node("Gather", [name, best], outputs[0], axis=0, op_version=1)
