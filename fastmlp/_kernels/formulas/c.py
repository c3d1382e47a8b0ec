"""Formulas as C code: for the predictor's vectors (`header`, at build time) and for `fastmlp.export_c` (`functions`).

The module parses the source of a formula's file and imports nothing of the package, so that setup.py can run it alone.
"""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

__all__ = ["HELPERS", "MATH", "SCALAR", "VECTOR", "Dialect", "functions", "header"]

_OPERATORS = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/"}


class Dialect(NamedTuple):
    """Rules for writing C: the type of a number; text of a function name, a literal, a comparison by < and a call.

    ``all_parameters``: whether a function declares parameters that it does not use.
    """

    type: str
    all_parameters: bool
    function: Callable[[str], str]
    literal: Callable[[float], str]
    less: Callable[[str, str], str]
    call: Callable[[str, Sequence[str]], str]


def functions(path: Path, dialect: Dialect) -> str:
    """Return the C functions of a formula's forward: ``h_NAME(x, alpha)`` (or ``h_NAME(x)``) after its helpers.

    Raises
    ------
    ValueError
        If the formula contains anything except assignments, ``return``, arithmetic, ``<``, ``>`` and calls.
    """
    tree = ast.parse(path.read_text(encoding="utf-8"))
    name = path.stem
    found = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    constants: dict[str, float] = {}
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            value = eval(compile(ast.Expression(node.value), str(path), "eval"), {"math": math, **constants})
            if isinstance(value, float):
                constants[node.targets[0].id] = value
    needed: list[str] = []

    def visit(function: str) -> None:
        for node in ast.walk(found[function]):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in found:
                visit(node.func.id)
        if function not in needed:
            needed.append(function)

    visit("forward")
    own = {function: "h_" + name + ("" if function == "forward" else function) for function in needed}
    return "".join(_function(found[function], own, constants, dialect) for function in needed)


def _function(node: ast.FunctionDef, own: dict[str, str], constants: dict[str, float], dialect: Dialect) -> str:
    lines: list[str] = []

    def text(value: ast.expr) -> str:
        if isinstance(value, ast.Name):
            return dialect.literal(constants[value.id]) if value.id in constants else value.id
        if isinstance(value, ast.Constant) and isinstance(value.value, float):
            return dialect.literal(value.value)
        if isinstance(value, ast.UnaryOp) and isinstance(value.op, ast.USub):
            return f"(-{text(value.operand)})"
        if isinstance(value, ast.BinOp) and type(value.op) in _OPERATORS:
            return f"({text(value.left)} {_OPERATORS[type(value.op)]} {text(value.right)})"
        if isinstance(value, ast.Compare) and len(value.ops) == 1 and isinstance(value.ops[0], (ast.Lt, ast.Gt)):
            left, right = text(value.left), text(value.comparators[0])
            return dialect.less(left, right) if isinstance(value.ops[0], ast.Lt) else dialect.less(right, left)
        if isinstance(value, ast.Call) and isinstance(value.func, ast.Name):
            arguments = [text(argument) for argument in value.args]
            if value.func.id in own:
                return f"{dialect.function(own[value.func.id])}({', '.join(arguments)})"
            return dialect.call(value.func.id, arguments)
        raise ValueError(f"line {value.lineno} of a formula cannot be written in C: {ast.unparse(value)}.")

    for statement in node.body:
        if isinstance(statement, ast.Assign):
            names, values = statement.targets[0], statement.value
            pairs = (
                zip(names.elts, values.elts, strict=True)
                if isinstance(names, ast.Tuple) and isinstance(values, ast.Tuple)
                else [(names, values)]
            )
            lines += [f"    {dialect.type} {ast.unparse(name)} = {text(value)};" for name, value in pairs]
        elif isinstance(statement, ast.Return) and statement.value is not None:
            lines.append(f"    return {text(statement.value)};")
        elif not (isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)):  # a docstring
            raise ValueError(f"line {statement.lineno} of a formula cannot be written in C: {ast.unparse(statement)}.")
    body = "\n".join(lines)
    parameters = ", ".join(
        f"{dialect.type} {argument.arg}"
        for argument in node.args.args
        if dialect.all_parameters or re.search(rf"\b{argument.arg}\b", body)
    )
    return f"static inline {dialect.type} {dialect.function(own[node.name])}({parameters}) {{\n{body}\n}}\n"


# ------------------------------------------------------------------------------- vectors of the predictor

_VECTOR_CALLS = {
    "absolute", "clamp", "copy_sign", "exp", "expm1", "fma", "log1p_unit", "normal_cdf", "sigmoid", "softplus", "tanh",
    "where",
}  # fmt: skip


def _vector_call(name: str, arguments: Sequence[str]) -> str:
    if name == "full_like":
        return arguments[1]
    if name not in _VECTOR_CALLS:
        raise ValueError(f"The predictor's C has no {name}; expected one of {', '.join(sorted(_VECTOR_CALLS))}.")
    return f"NAME({name})({', '.join(arguments)})"


VECTOR = Dialect(
    "VEC",
    True,
    lambda name: f"NAME({name})",
    lambda value: f"FULL({value.hex()})",
    lambda a, b: f"LESS({a}, {b})",
    _vector_call,
)


def header(folder: Path) -> str:
    """Return activations.h of the predictor's kernels, generated from a folder's files of activations and columns."""
    paths, by_column = (
        sorted(path for path in (folder / family).glob("*.py") if path.stem != "__init__")
        for family in ("activations", "columns")
    )
    names = [path.stem for path in paths]
    cases = "\n".join(f"    case {name.upper()}: MAP(NAME(h_{name})(v, alpha))" for name in names if name != "identity")
    column_cases = "\n".join(
        f"    case {number}: MAP(NAME(h_{path.stem})(v, NAME(load)(first + i), NAME(load)(second + i)))"
        for number, path in enumerate(by_column)
    )
    return (
        "/* Written by setup.py from the formulas. */\n#ifndef FASTMLP_ACTIVATIONS\n#define FASTMLP_ACTIVATIONS\n"
        f"enum {{ {', '.join(name.upper() for name in names)} }};\n"
        f'static const char *const ACTIVATIONS = "{" ".join(names)}";\n'
        f'static const char *const COLUMNS = "{" ".join(path.stem for path in by_column)}";\n#endif\n\n'
        + "".join(functions(path, VECTOR) for path in (*paths, *by_column))
        + "\n/* a (count) = h(a) in place; count is a multiple of LANES. */\n"
        "static void NAME(activate)(int kind, REAL number, REAL *a, ptrdiff_t count) {\n"
        f"    VEC alpha = FULL(number);\n    switch (kind) {{\n{cases}\n    default: break;\n    }}\n}}\n"
        "\n/* a (count) = f(a, first, second) in place, element by element. */\n"
        "static void NAME(by_column)(int kind, REAL *a, ptrdiff_t count, const REAL *first, const REAL *second) {\n"
        f"    switch (kind) {{\n{column_cases}\n"
        "    default: (void)a, (void)count, (void)first, (void)second;\n    }\n}\n"
    )


# ------------------------------------------------------------------------------------------------- C99
# T is the C type; S is the suffix of its literals and of its math.h functions.

_SCALAR_CALLS = {
    "absolute": "fabsS", "copy_sign": "copysignS", "exp": "expS", "expm1": "expm1S", "log": "logS",
    "log1p_unit": "log1pS", "square_root": "sqrtS", "tanh": "tanhS",
}  # fmt: skip
MATH = (*(name.removesuffix("S") for name in _SCALAR_CALLS.values()), "erfc")  # functions of math.h
# C definitions of the vocabulary's functions that math.h lacks.
HELPERS = {
    "sigmoid": """static T sigmoid(T x) {
    T e = expS(-fabsS(x)); /* never overflows */
    return (x >= 0 ? 1 : e) / (1 + e);
}
""",
    "softplus": "static T softplus(T x) { return (x > 0 ? x : 0) + log1pS(expS(-fabsS(x))); }\n",
    "normal_cdf": "static T normal_cdf(T x) { return 0.5S * erfcS(-x * 0.70710678118654752440S); }\n",
    "normal_pdf": "static T normal_pdf(T x) { return 0.39894228040143267794S * expS(-0.5S * x * x); }\n",
    "clamp": "static T clamp(T x, T bound) { return x > bound ? bound : x < -bound ? -bound : x; }\n",
}


def _scalar_call(name: str, arguments: Sequence[str]) -> str:
    if name == "full_like":
        return arguments[1]
    if name == "where":
        return f"({arguments[0]} ? {arguments[1]} : {arguments[2]})"
    if name == "fma":
        return f"({arguments[0]} * {arguments[1]} + {arguments[2]})"
    if name not in _SCALAR_CALLS and name not in HELPERS:
        raise ValueError(f"C99 has no {name}.")
    return f"{_SCALAR_CALLS.get(name, name)}({', '.join(arguments)})"


SCALAR = Dialect("T", False, str, lambda value: f"{value!r}S", lambda a, b: f"{a} < {b}", _scalar_call)
