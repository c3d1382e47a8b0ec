"""A converter for skl2onnx: a Pipeline that ends in our estimator becomes one ONNX graph."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..estimators import MLPClassifier, MLPRegressor
from ..frozen import leaves
from .onnx_nodes import nodes_of

__all__ = ["FLOAT_ONLY", "register_skl2onnx"]

FLOAT_ONLY = ("Elu", "Gelu", "LeakyRelu", "Softplus")


def register_skl2onnx() -> None:
    """Make ``skl2onnx.to_onnx`` know `MLPClassifier` and `MLPRegressor`; once in a process.

    A classifier gives the outputs ``label`` and ``probabilities`` (without a zipmap), a regressor ``variable``, as
    scikit-learn's own do. The graph computes in float64 where its input is declared so, in float32 otherwise; but of
    activations that ONNX Runtime has in float32 alone (`FLOAT_ONLY`) it takes those. A net with ``layer_norm`` takes
    opset 17, one with "gelu" or "gelu_tanh" opset 20: below that the conversion is refused.

    Raises
    ------
    ImportError
        If skl2onnx is not installed.
    """
    from skl2onnx import update_registered_converter
    from skl2onnx.common.shape_calculator import (
        calculate_linear_classifier_output_shapes,
        calculate_linear_regressor_output_shapes,
    )

    update_registered_converter(
        MLPClassifier,
        "FastmlpMLPClassifier",
        calculate_linear_classifier_output_shapes,
        _convert,
        options={"zipmap": [True, False, "columns"], "nocl": [True, False], "output_class_labels": [False, True]},
    )
    update_registered_converter(MLPRegressor, "FastmlpMLPRegressor", calculate_linear_regressor_output_shapes, _convert)


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

    x = node("Cast", [operator.inputs[0].full_name], to=number, op_version=9)
    for module in leaves(net._linked().model):
        entered = x
        for step in nodes_of(module):
            if step.version > container.target_opset:
                raise ValueError(
                    f"{step.operator} of this net comes with opset {step.version}, got target_opset="
                    f"{container.target_opset}; give a newer step."
                )
            more = [entered] if step.with_input else [constant(array) for array in step.constants]
            narrow = wide and step.operator in FLOAT_ONLY
            x = node("Cast", [x], to=TensorProto.FLOAT, op_version=9) if narrow else x
            x = node(step.operator, [x, *more], op_version=step.version, **step.attributes)
            x = node("Cast", [x], to=number, op_version=9) if narrow else x
    outputs = [variable.full_name for variable in operator.outputs]
    if isinstance(net, MLPRegressor):
        x = node("Exp", [x], op_version=6) if net.out_activation_ == "exp" else x
        node("Identity", [x], outputs[0], op_version=1)
        return
    softmax = net.out_activation_ == "softmax"
    version = 13 if container.target_opset >= 13 else 1  # of two dimensions they say the same
    probability = node("Softmax", [x], axis=1, op_version=version) if softmax else node("Sigmoid", [x], op_version=6)
    if not softmax and net.n_outputs_ == 1:
        one = constant(np.ones((1, 1)))
        probability = node("Concat", [node("Sub", [one, probability], op_version=7), probability], axis=1, op_version=4)
    node("Identity", [probability], outputs[1], op_version=1)
    if net._labels() is None:  # several labels at once
        half = constant(np.full((1, 1), 0.5))
        node(
            "Cast", [node("Greater", [probability, half], op_version=9)], outputs[0], to=TensorProto.INT64, op_version=9
        )
        return
    best = node("ArgMax", [probability], axis=1, keepdims=0, op_version=1)
    text = net.classes_.dtype.kind in "OUS"
    labels = [str(label).encode() for label in net.classes_] if text else net.classes_.astype(np.int64)
    name = str(scope.get_unique_variable_name("classes"))
    container.add_initializer(
        name, TensorProto.STRING if text else TensorProto.INT64, [len(net.classes_)], list(labels)
    )
    node("Gather", [name, best], outputs[0], axis=0, op_version=1)
