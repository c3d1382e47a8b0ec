"""Formulas as C99 code, for `fastmlp.export_c`; the module parses the source of a formula's file."""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Sequence
from pathlib import Path

__all__ = ["HELPERS", "MATH", "functions"]

_OPERATORS = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/"}


def functions(path: Path) -> str:
    """Return the C functions of a formula's forward: ``h_NAME(x, alpha)`` (or ``h_NAME(x)``) after its helpers.

    T is the C type of numbers; S is the suffix of literals and of the functions of math.h.

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
    return "".join(_function(found[function], own, constants) for function in needed)


def _function(node: ast.FunctionDef, own: dict[str, str], constants: dict[str, float]) -> str:
    lines: list[str] = []

    def text(value: ast.expr) -> str:
        if isinstance(value, ast.Name):
            return f"{constants[value.id]!r}S" if value.id in constants else value.id
        if isinstance(value, ast.Constant) and isinstance(value.value, float):
            return f"{value.value!r}S"
        if isinstance(value, ast.UnaryOp) and isinstance(value.op, ast.USub):
            return f"(-{text(value.operand)})"
        if isinstance(value, ast.BinOp) and type(value.op) in _OPERATORS:
            return f"({text(value.left)} {_OPERATORS[type(value.op)]} {text(value.right)})"
        if isinstance(value, ast.Compare) and len(value.ops) == 1 and isinstance(value.ops[0], (ast.Lt, ast.Gt)):
            left, right = text(value.left), text(value.comparators[0])
            return f"{left} < {right}" if isinstance(value.ops[0], ast.Lt) else f"{right} < {left}"
        if isinstance(value, ast.Call) and isinstance(value.func, ast.Name):
            arguments = [text(argument) for argument in value.args]
            if value.func.id in own:
                return f"{own[value.func.id]}({', '.join(arguments)})"
            return _call(value.func.id, arguments)
        raise ValueError(f"line {value.lineno} of a formula cannot be written in C: {ast.unparse(value)}.")

    for statement in node.body:
        if isinstance(statement, ast.Assign):
            names, values = statement.targets[0], statement.value
            pairs = (
                zip(names.elts, values.elts, strict=True)
                if isinstance(names, ast.Tuple) and isinstance(values, ast.Tuple)
                else [(names, values)]
            )
            lines += [f"    T {ast.unparse(name)} = {text(value)};" for name, value in pairs]
        elif isinstance(statement, ast.Return) and statement.value is not None:
            lines.append(f"    return {text(statement.value)};")
        elif not (isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)):  # a docstring
            raise ValueError(f"line {statement.lineno} of a formula cannot be written in C: {ast.unparse(statement)}.")
    body = "\n".join(lines)
    parameters = ", ".join(
        f"T {argument.arg}" for argument in node.args.args if re.search(rf"\b{argument.arg}\b", body)
    )
    return f"static inline T {own[node.name]}({parameters}) {{\n{body}\n}}\n"


_CALLS = {
    "absolute": "fabsS", "copy_sign": "copysignS", "exp": "expS", "expm1": "expm1S", "log": "logS",
    "log1p_unit": "log1pS", "square_root": "sqrtS", "tanh": "tanhS",
}  # fmt: skip
MATH = (*(name.removesuffix("S") for name in _CALLS.values()), "erfc")  # functions of math.h
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


def _call(name: str, arguments: Sequence[str]) -> str:
    if name == "full_like":
        return arguments[1]
    if name == "where":
        return f"({arguments[0]} ? {arguments[1]} : {arguments[2]})"
    if name == "fma":
        return f"({arguments[0]} * {arguments[1]} + {arguments[2]})"
    if name not in _CALLS and name not in HELPERS:
        raise ValueError(f"C99 has no {name}.")
    return f"{_CALLS.get(name, name)}({', '.join(arguments)})"
