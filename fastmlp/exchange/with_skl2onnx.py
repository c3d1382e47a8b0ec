"""A converter for skl2onnx: a Pipeline that ends in our estimator becomes one ONNX graph."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..estimators import MLPClassifier, MLPRegressor

__all__ = ["register_skl2onnx"]

# fastmlp's name: (operator, its attributes); the others are made of several nodes.
_OPERATORS: dict[str, tuple[str, dict[str, Any]]] = {
    "relu": ("Relu", {}),
    "tanh": ("Tanh", {}),
    "logistic": ("Sigmoid", {}),
    "elu": ("Elu", {"alpha": 1.0}),
    "leaky_relu": ("LeakyRelu", {"alpha": 0.01}),
    "softplus": ("Softplus", {}),
}


def register_skl2onnx() -> None:
    """Make ``skl2onnx.to_onnx`` know `MLPClassifier` and `MLPRegressor`; once in a process.

    Activations: identity, relu, tanh, logistic, elu, leaky_relu, softplus; others, and ``layer_norm``, are refused when
    a model is converted. A classifier gives the outputs ``label`` and ``probabilities`` (without a zipmap), a regressor
    ``variable``, as scikit-learn's own do.

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

    net = operator.raw_operator
    if net.layer_norm or net.activation not in (*_OPERATORS, "identity"):
        what = "layer_norm" if net.layer_norm else f"the activation {net.activation!r}"
        raise ValueError(f"A net with {what} cannot be converted by skl2onnx; use fastmlp.export_onnx for the net.")
    wide = net.coefs_[0].dtype == np.float64
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
    last = len(net.coefs_) - 1
    for layer, (coef, intercept) in enumerate(zip(net.coefs_, net.intercepts_, strict=True)):
        x = node("Add", [node("MatMul", [x, constant(coef)], op_version=9), constant(intercept)], op_version=7)
        if layer < last and net.activation != "identity":
            kind, attributes = _OPERATORS[net.activation]
            x = node(kind, [x], op_version=6 if kind != "Softplus" else 1, **attributes)
    outputs = [variable.full_name for variable in operator.outputs]
    if isinstance(net, MLPRegressor):
        x = node("Exp", [x], op_version=6) if net.loss == "poisson" else x
        node("Cast", [x], outputs[0], to=TensorProto.FLOAT if not wide else number, op_version=9)
        return
    softmax = net.out_activation_ == "softmax"
    probability = node("Softmax", [x], axis=1, op_version=13) if softmax else node("Sigmoid", [x], op_version=6)
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
