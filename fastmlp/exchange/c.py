"""C: a model as one file of C99 that depends on nothing."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import numpy as np

from .. import __version__
from .._common.validation import Array
from .._kernels.formulas import find
from .._kernels.formulas.c import HELPERS, MATH, SCALAR, functions
from ..inference.plan import leaves, require_model
from ..io.files import atomic_write
from ..modules import Dropout, LayerNorm, Linear, Module, Normalize, Softmax
from ..modules.activations import Activation
from ..modules.base import is_plain

__all__ = ["c_source", "export_c"]

# Words of C99, what the file itself defines, and what it may take from math.h.
_TAKEN = frozenset(
    "auto break case char const continue default do double else enum extern float for goto if inline int long register "
    "restrict return short signed sizeof static struct switch typedef union unsigned void volatile while main x y "
    "linear layer_norm softmax normalize buffers inline".split()
).union(HELPERS)
_MATH = re.compile(rf"({'|'.join(MATH)})[fl]?|c\d+|h_\w+")
_LINEAR = """static void linear(const T *x, int inputs, int outputs, const T *weight, const T *bias, T *y) {
    for (int o = 0; o < outputs; o++) {
        T sum = 0;
        for (int i = 0; i < inputs; i++) sum += x[i] * weight[o * (long)inputs + i];
        y[o] = bias ? sum + bias[o] : sum;
    }
}
"""
_LAYER_NORM = """static void layer_norm(T *x, int n, const T *weight, const T *bias, T eps) {
    T mean = 0, var = 0;
    for (int i = 0; i < n; i++) mean += x[i];
    mean /= (T)n;
    for (int i = 0; i < n; i++) var += (x[i] - mean) * (x[i] - mean);
    T scale = 1 / sqrtS(var / (T)n + eps);
    for (int i = 0; i < n; i++) {
        T z = (x[i] - mean) * scale;
        x[i] = weight ? z * weight[i] + bias[i] : z;
    }
}
"""
_SOFTMAX = """static void softmax(T *x, int n) {
    T largest = x[0], sum = 0;
    for (int i = 1; i < n; i++)
        if (x[i] > largest) largest = x[i];
    for (int i = 0; i < n; i++) {
        x[i] = expS(x[i] - largest);
        sum += x[i];
    }
    for (int i = 0; i < n; i++) x[i] /= sum;
}
"""
_NORMALIZE = """static void normalize(T *x, int n, const T *mean, const T *scale) {
    for (int i = 0; i < n; i++) x[i] = (x[i] - mean[i]) / scale[i];
}
"""


def export_c(model: Module, path: str | os.PathLike[str], name: str = "predict") -> None:
    """Write a model as one C99 file with its weights and ``void predict(const float *x, float *y)``.

    x is one row of inputs, y one of outputs, in the model's dtype; the Normalize is part of it, Dropout does nothing.
    All memory is static (so one thread at a time), and of the C library only what the activations need of math.h is
    used: ``cc -std=c99 -O2 model.c main.c -lm``.

    Parameters
    ----------
    model : Module
    path : path-like
        The file, which appears whole or not at all.
    name : str
        Of the function; the macros ``NAME_INPUTS`` and ``NAME_OUTPUTS`` give the widths.

    Raises
    ------
    ValueError
        If the model has a module of another maker or takes any width, or ``name`` cannot be one in C.
    OSError
        If the file cannot be written.
    """
    text = c_source(model, name)
    with atomic_write(path) as stream:
        stream.write(text.encode())


def c_source(model: Module, name: str = "predict") -> str:
    """The text that `export_c` writes."""
    require_model(model, "export_c", sized=True)
    assert model.in_width is not None and model.dtype is not None
    right = isinstance(name, str) and re.fullmatch(r"[a-zA-Z][a-zA-Z0-9_]*", name)
    if not right or name in _TAKEN or _MATH.fullmatch(name):
        raise ValueError(f"name is {name!r}; expected a C name such as 'predict' that is not taken.")
    body = _Body(model.dtype)
    for module in leaves(model):
        body.add(module, model.in_width)
    width = body.width or model.in_width
    lines = [
        f"/* A multilayer perceptron of {model.in_width} inputs and {width} outputs, written by fastmlp {__version__}.",
        " *",
        f" *     void {name}(const T *x, T *y);",
        " *",
        f" * T is {body.type}; x has {model.in_width} numbers, y {width}. Memory is static: one thread at a time.",
        " * Compile: cc -std=c99 -O2 -c FILE; link with -lm. */",
        "#include <math.h>",
        "",
        f"#define {name.upper()}_INPUTS {model.in_width}",
        f"#define {name.upper()}_OUTPUTS {width}",
        "",
        f"void {name}(const {body.type} *x, {body.type} *y);",
        "",
        *body.functions,
        *body.constants,
        f"static {body.type} buffers[2][{max(body.widest, model.in_width)}];",
        "",
        f"void {name}(const {body.type} *x, {body.type} *y) {{",
        f"    for (int i = 0; i < {model.in_width}; i++) buffers[0][i] = x[i];",
        *body.calls,
        f"    for (int i = 0; i < {width}; i++) y[i] = buffers[{body.now}][i];",
        "}",
        "",
    ]
    return "\n".join(lines)


class _Body:
    """Collects functions, constants and calls."""

    def __init__(self, dtype: np.dtype[Any]) -> None:
        self.dtype = dtype
        self.type, self.suffix = ("float", "f") if dtype == np.float32 else ("double", "")
        self.functions: list[str] = []
        self.constants: list[str] = []
        self.calls: list[str] = []
        self.now = 0  # the buffer that holds the row
        self.width = self.widest = 0

    def _need(self, text: str) -> None:
        text = re.sub(r"\bT\b", self.type, re.sub(r"(?<=[a-z0-9])S\b", self.suffix, text))
        if text not in self.functions:
            self.functions.append(text)

    def _need_activation(self, module: Activation) -> bool:
        """Add the function of an activation; whether it takes an alpha."""
        file = getattr(find("activations", module.kind), "__file__", None)
        if file is None:
            raise ValueError(f"export_c: the formula {module.kind!r} is in no file; expected a module that has one.")
        text = functions(Path(file), SCALAR)
        for name, helper in HELPERS.items():
            if re.search(rf"\b{name}\(", text):
                self._need(helper)
        self._need(text)
        return "T alpha)" in text

    def _constant(self, array: Array | None) -> str:
        if array is None:
            return "0"
        name = f"c{len(self.constants)}"
        numbers = [self._number(value) for value in array.ravel().tolist()]
        rows = [", ".join(numbers[i : i + 6]) for i in range(0, len(numbers), 6)]
        text = ",\n    ".join(rows)
        self.constants.append(f"static const {self.type} {name}[{array.size}] = {{\n    {text}}};\n")
        return name

    def _number(self, value: float) -> str:
        if not np.isfinite(value):
            return "NAN" if np.isnan(value) else "INFINITY" if value > 0 else "-INFINITY"
        return f"{float(value).hex()}{self.suffix}"

    def add(self, module: Module, inputs: int) -> None:
        """Append what a module computes."""
        arrays, width, row = module.state_dict(), self.width or inputs, f"buffers[{self.now}]"
        if type(module) is Linear:
            self._need(_LINEAR)
            weight, bias = self._constant(arrays["weight"]), self._constant(arrays.get("bias"))
            self.now, out = 1 - self.now, module.out_features
            self.calls.append(f"    linear({row}, {width}, {out}, {weight}, {bias}, buffers[{self.now}]);")
            width = out
        elif type(module) is LayerNorm:
            self._need(_LAYER_NORM)
            weight, bias = self._constant(arrays.get("weight")), self._constant(arrays.get("bias"))
            eps = self._number(self.dtype.type(module.eps).item())
            self.calls.append(f"    layer_norm({row}, {width}, {weight}, {bias}, {eps});")
        elif type(module) is Softmax:
            self._need(_SOFTMAX)
            self.calls.append(f"    softmax({row}, {width});")
        elif type(module) is Normalize:
            self._need(_NORMALIZE)
            mean, scale = self._constant(arrays["mean"]), self._constant(arrays["scale"])
            self.calls.append(f"    normalize({row}, {width}, {mean}, {scale});")
        elif isinstance(module, Activation) and is_plain(module, Activation, "_compute"):
            more = f", {self._number(self.dtype.type(module.alpha).item())}" if self._need_activation(module) else ""
            call = f"h_{module.kind}({row}[i]{more})"
            self.calls.append(f"    for (int i = 0; i < {width}; i++) {row}[i] = {call};")
        elif not isinstance(module, Dropout):
            raise ValueError(f"export_c: there is no C for {type(module).__name__}; expected fastmlp's modules.")
        self.width, self.widest = width, max(self.widest, width)
