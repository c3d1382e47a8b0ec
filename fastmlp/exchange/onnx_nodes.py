"""What each module is in ONNX: for graphs of our own, and for those of skl2onnx."""

from __future__ import annotations

import numpy as np

from ..modules import Activation, LayerNorm, Linear, Module, Normalize, Softmax
from ..modules.onnx_node import Node

__all__ = ["Node", "nodes_of"]


def nodes_of(module: Module) -> list[Node]:
    """The nodes that compute, one after the other, what the module does in evaluation.

    Raises
    ------
    ValueError
        If there is no ONNX for it.
    """
    arrays = module.state_dict()
    if isinstance(module, Activation) and (module.declares("onnx") or module.declares("onnx_nodes")):
        return module.onnx_nodes()
    if type(module) is Linear:
        bias = (arrays["bias"],) if "bias" in arrays else ()
        return [Node("Gemm", 7 if bias else 11, (arrays["weight"], *bias), {"transB": 1})]
    if type(module) is Normalize:
        return [Node("Sub", 7, (arrays["mean"],)), Node("Div", 7, (arrays["scale"],))]
    if type(module) is LayerNorm:
        one, zero = np.ones(module.features), np.zeros(module.features)
        constants = (arrays.get("weight", one), arrays.get("bias", zero))
        return [Node("LayerNormalization", 17, constants, {"axis": -1, "epsilon": module.eps})]
    if type(module) is Softmax:
        return [Node("Softmax", 13, attributes={"axis": -1})]
    raise ValueError(f"There is no ONNX for {type(module).__name__}; expected fastmlp's modules.")
