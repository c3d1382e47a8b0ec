"""What each module is in ONNX: for graphs of our own, and for those of skl2onnx."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..modules import (
    ELU,
    GELU,
    LayerNorm,
    LeakyReLU,
    Linear,
    Module,
    Normalize,
    ReLU,
    Sigmoid,
    SiLU,
    Softmax,
    Softplus,
    Tanh,
)  # fmt: skip

__all__ = ["PLAIN", "Node", "nodes_of"]

PLAIN: dict[type[Module], str] = {ReLU: "Relu", Tanh: "Tanh", Sigmoid: "Sigmoid", Softplus: "Softplus"}


class Node(NamedTuple):
    """operator(the value so far, constants ...), of the opset in which it came to be as it is here.

    ``with_input``: its second input is the value that the module began with.
    """

    operator: str
    version: int
    constants: tuple[np.ndarray, ...] = ()
    attributes: dict[str, Any] = {}
    with_input: bool = False


def nodes_of(module: Module) -> list[Node]:
    """The nodes that compute, one after the other, what the module does in evaluation.

    Raises
    ------
    ValueError
        If there is no ONNX for it.
    """
    arrays = module.state_dict()
    if type(module) is Linear:
        bias = (arrays["bias"],) if "bias" in arrays else ()
        return [Node("Gemm", 7 if bias else 11, (arrays["weight"], *bias), {"transB": 1})]
    if type(module) is Normalize:
        return [Node("Sub", 7, (arrays["mean"],)), Node("Div", 7, (arrays["scale"],))]
    if type(module) is LayerNorm:
        one, zero = np.ones(module.features), np.zeros(module.features)
        constants = (arrays.get("weight", one), arrays.get("bias", zero))
        return [Node("LayerNormalization", 17, constants, {"axis": -1, "epsilon": module.eps})]
    if type(module) is SiLU:
        return [Node("Sigmoid", 6), Node("Mul", 7, with_input=True)]
    if type(module) is GELU:
        return [Node("Gelu", 20, attributes={"approximate": module.approximate})]
    if type(module) is LeakyReLU:
        return [Node("LeakyRelu", 6, attributes={"alpha": module.negative_slope})]
    if type(module) is ELU:
        return [Node("Elu", 6, attributes={"alpha": module.alpha})]
    if type(module) is Softmax:
        return [Node("Softmax", 13, attributes={"axis": -1})]
    if type(module) in PLAIN:
        return [Node(PLAIN[type(module)], 1 if type(module) is Softplus else 6)]
    raise ValueError(f"There is no ONNX for {type(module).__name__}; expected fastmlp's modules.")
