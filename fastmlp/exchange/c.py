"""Export of a model to a self-contained C99 file."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import numpy as np

from .. import __version__
from .._common.validation import Array
from .._kernels.formulas import find
from .._kernels.formulas.c import HELPERS, MATH, functions
from .._kernels.reference_binned import sums_and_rows
from ..inference.plan import require_model
from ..io.files import atomic_write
from ..modules import Module
from ..modules.lowering import Masks, describes, iter_layers

__all__ = ["Body", "c_source", "export_c", "require_free_name"]

# Keywords of C99, and names that the file defines; _MATH matches names of math.h and of generated functions.
_TAKEN = frozenset(
    "auto break case char const continue default do double else enum extern float for goto if inline int long register "
    "restrict return short signed sizeof static struct switch typedef union unsigned void volatile while main x y "
    "binned linear layer_norm softmax normalize buffers inline number place inputs some numbers texts sum".split()
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
_BINNED = """static void binned(const T *x, int inputs, int outputs, int dense, const T *bins, const T *weight,
                   const T *bias, const T *rows, T *y) {
    for (int o = 0; o < outputs; o++) {
        T sum = bias ? bias[o] : 0;
        for (int i = 0; i < dense; i++) sum += x[i] * weight[o * (long)dense + i];
        y[o] = sum;
    }
    for (int c = 0; c < inputs - dense; c++) {
        int first = (int)bins[3 * c], count = (int)bins[3 * c + 1], row;
        T p = x[dense + c];
        if (bins[3 * c + 2] == 0) {
            if (!(p >= 0 && p < (T)count)) continue;
            row = (int)p;
            p = (T)row;
        } else {
            p = p < 0 ? 0 : p > (T)count ? (T)count : p;
            row = p >= 0 ? (int)p : 0;
            if (row == count) row--;
        }
        const T *sum = rows + (first + row) * 2L * outputs, *own = sum + outputs;
        for (int o = 0; o < outputs; o++) y[o] += sum[o] + (p - (T)row) * own[o];
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
    """Write a model as one C99 file that contains its weights and ``void predict(const float *x, float *y)``.

    x is one row of inputs and y one row of outputs, in the model's dtype (float or double). Normalize is included, and
    Dropout does nothing. All memory is static, so that only one thread may call the function at a time. The file needs
    math.h only: ``cc -std=c99 -O2 model.c main.c -lm``.

    Parameters
    ----------
    model : Module
    path : path-like
        The file, written whole or not at all.
    name : str
        Name of the function. The macros ``NAME_INPUTS`` and ``NAME_OUTPUTS`` give the widths.

    Raises
    ------
    ValueError
        If the model has a user-defined module or no fixed width, or ``name`` is not a free name in C.
    OSError
        If the file cannot be written.

    Examples
    --------
    >>> import fastmlp as fm
    >>> fm.export_c(fm.MLP(4, [8], 2), "model.c")  # doctest: +SKIP
    """
    text = c_source(model, name)
    with atomic_write(path) as stream:
        stream.write(text.encode())


def c_source(model: Module, name: str = "predict") -> str:
    """Return the C source that `export_c` writes."""
    require_model(model, "export_c", sized=True)
    assert model.in_width is not None and model.dtype is not None
    require_free_name(name)
    body = Body(model.dtype, model.in_width)
    for _, module in iter_layers(model, evaluation=True):
        body.add(module)
    width = body.width
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
        f"static {body.type} buffers[2][{body.widest}];",
        "",
        f"void {name}(const {body.type} *x, {body.type} *y) {{",
        f"    for (int i = 0; i < {model.in_width}; i++) buffers[0][i] = x[i];",
        *body.calls,
        f"    for (int i = 0; i < {width}; i++) y[i] = buffers[{body.now}][i];",
        "}",
        "",
    ]
    return "\n".join(lines)


def require_free_name(name: str) -> None:
    """Raise ValueError if ``name`` is not a name that a function of the C file may have."""
    right = isinstance(name, str) and re.fullmatch(r"[a-zA-Z][a-zA-Z0-9_]*", name)
    if not right or name in _TAKEN or _MATH.fullmatch(name):
        raise ValueError(f"name is {name!r}; expected a free C identifier, such as 'predict'.")


class Body:
    """Collects functions, constants and calls; a `CBody`.

    Parameters
    ----------
    dtype : numpy.dtype
    inputs : int
    functions, constants : list of str, optional
        Those of a file with several models, which are extended.
    """

    def __init__(
        self,
        dtype: np.dtype[Any],
        inputs: int,
        functions: list[str] | None = None,
        constants: list[str] | None = None,
    ) -> None:
        self.dtype = dtype
        self.type, self.suffix = ("float", "f") if dtype == np.float32 else ("double", "")
        self.functions: list[str] = [] if functions is None else functions
        self.constants: list[str] = [] if constants is None else constants
        self.calls: list[str] = []
        self.now = 0  # the buffer that holds the row
        self.width = self.widest = inputs
        self._arrays: dict[str, Array] = {}

    def add(self, module: Module) -> None:
        """Append what a module computes."""
        self._arrays = module.state_dict()
        if describes(module, "to_c"):
            module.to_c(self)
        elif describes(module, "lower"):
            module.lower(self)
        else:
            raise ValueError(
                f"export_c does not support {type(module).__name__}; expected fastmlp's modules, or one with to_c."
            )

    # The methods of `CBody`.

    def function(self, text: str) -> None:
        """See `CBody`, as for all that follow."""
        text = re.sub(r"\bT\b", self.type, re.sub(r"(?<=[a-z0-9])S\b", self.suffix, text))
        if text not in self.functions:
            self.functions.append(text)

    def constant(self, array: Array | None) -> str:
        """A static array."""
        if array is None:
            return "0"
        name = f"c{len(self.constants)}"
        numbers = [self._literal(value) for value in array.ravel().tolist()]
        rows = [", ".join(numbers[i : i + 6]) for i in range(0, len(numbers), 6)]
        text = ",\n    ".join(rows)
        self.constants.append(f"static const {self.type} {name}[{array.size}] = {{\n    {text}}};\n")
        return name

    def number(self, value: float) -> str:
        """In the model's dtype."""
        return self._literal(self.dtype.type(value).item())

    def _literal(self, value: float) -> str:
        if not np.isfinite(value):
            return "NAN" if np.isnan(value) else "INFINITY" if value > 0 else "-INFINITY"
        return f"{float(value).hex()}{self.suffix}"

    def call(self, name: str, *arguments: str) -> None:
        """A function of the row, in place."""
        self.calls.append(f"    {name}({', '.join((self._row, str(self.width), *arguments))});")

    def call_into(self, outputs: int, name: str, *arguments: str) -> None:
        """A function to the other buffer."""
        given = (self._row, str(self.width), str(outputs), *arguments)
        self.now = 1 - self.now
        self.calls.append(f"    {name}({', '.join(given)}, {self._row});")
        self.width, self.widest = outputs, max(self.widest, outputs)

    @property
    def _row(self) -> str:
        return f"buffers[{self.now}]"

    # The methods of `PlanBuilder`.

    def linear(self, outputs: int, weight: str, bias: str | None) -> None:
        """See `PlanBuilder`, as for all that follow."""
        self.function(_LINEAR)
        self.call_into(outputs, "linear", *self._constants(weight, bias))

    def binned_linear(self, outputs: int, bins: Array, weight: str, table: str, bias: str | None) -> None:
        """A call, with the running sums of the table's rows."""
        self.function(_BINNED)
        starts = self.constant(bins)
        first, last, rows = *self._constants(weight, bias), self.constant(sums_and_rows(self._arrays[table], bins))
        self.call_into(outputs, "binned", str(self.width - len(bins)), starts, first, last, rows)

    def activation(self, kind: str, alpha: float) -> None:
        """The formula as C."""
        self._map("activations", kind, alpha=self.number(alpha))

    def columns(self, kind: str, first: str, second: str | None = None) -> None:
        """The formula as C."""
        a, b = self._constants(first, second)
        self._map("columns", kind, a=f"{a}[i]", b=f"{b}[i]")

    def _map(self, family: str, kind: str, **arguments: str) -> None:
        """Put a formula on each number of the row; it takes those of the arguments that it reads."""
        file = getattr(find(family, kind), "__file__", None)
        if file is None:
            raise ValueError(f"export_c: the formula {kind!r} is in no file; expected a module that has one.")
        text = functions(Path(file))
        for name, helper in HELPERS.items():
            if re.search(rf"\b{name}\(", text):
                self.function(helper)
        self.function(text)
        parameters = re.findall(r"T (\w+)", text[text.index(f" h_{kind}(") : text.rindex(") {")])
        read = [value for name, value in arguments.items() if name in parameters]
        call = f"h_{kind}({', '.join((f'{self._row}[i]', *read))})"
        self.calls.append(f"    for (int i = 0; i < {self.width}; i++) {self._row}[i] = {call};")

    def normalize(self, mean: str, scale: str) -> None:
        """A call."""
        self.function(_NORMALIZE)
        self.call("normalize", *self._constants(mean, scale))

    def layer_norm(self, eps: float, weight: str | None, bias: str | None) -> None:
        """A call."""
        self.function(_LAYER_NORM)
        self.call("layer_norm", *self._constants(weight, bias), self.number(eps))

    def softmax(self) -> None:
        """A call."""
        self.function(_SOFTMAX)
        self.call("softmax")

    def dropout(self, rate: float, masks: Masks) -> None:
        """Nothing in evaluation."""

    def _constants(self, *names: str | None) -> list[str]:
        """The module's arrays of these names as constants."""
        return [self.constant(None if name is None else self._arrays[name]) for name in names]
