"""Names with a leading underscore: used only in the file that defines them, or by subclasses on themselves."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import fastmlp

ROOT = Path(fastmlp.__file__).parent
# Exceptions: private attributes that other files use, with the reason.
ALLOWED = {
    "_asdict": "the public method of a NamedTuple",
    "_kernels": "our own package",
    "_param_validation": "scikit-learn's checks of parameters have no other name",
    "_core": "NumPy's name in its pickles",
}
ALLOWED_IN = {
    ("cli/options.py", "_ActionsContainer"): "argparse has no other name for a parser or a group of one",
    ("estimators/classifier.py", "_solver_is_stochastic"): "a subclass, on its base",
    ("estimators/regressor.py", "_solver_is_stochastic"): "a subclass, on its base",
    ("modules/activations/__init__.py", "_compute"): "the method that a registered class may override",
    ("optim/__init__.py", "_update"): "the method that a registered class may override",
    ("benchmark/with_sklearn.py", "_optimizer"): "scikit-learn's estimator begins anew without it",
    ("benchmark/with_torch.py", "_dynamo"): "PyTorch's counters have no other name",
    ("benchmark/with_torch.py", "_inductor"): "PyTorch's settings have no other name",
    ("_kernels/cuda/assembly.py", "_getvalue"): "numba-cuda's NVVM module has no public way to its numbers",
    ("_kernels/cuda/jit.py", "_cache"): "Numba's dispatchers have no public way to their cache",
}
COMPILER = ("_kernels/cuda/kept.py", "_kernels/cpu/inline_pass.py")  # these modules use Numba's internals


def private(name):
    return name.startswith("_") and not name.startswith("__")


def own(node):
    """Whether the object is this one: self, cls or super()."""
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Name) and node.func.id == "super"
    return isinstance(node, ast.Name) and node.id in ("self", "cls")


def definitions(tree):
    """The private names that a file defines: functions, variables, attributes of self and of classes."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and own(node.value):
            names.add(node.attr)
    return names


def reaches(source, path="file.py"):
    """(line, attribute) of each use of another's private attribute."""
    tree = ast.parse(source)
    defined = definitions(tree)
    return [
        (node.lineno, node.attr)
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and private(node.attr) and not own(node.value)
        if node.attr not in defined and node.attr not in ALLOWED and (path, node.attr) not in ALLOWED_IN
    ]


@pytest.mark.parametrize(
    ("source", "count"),
    [
        ("trainer._fit", 1),
        ("trainer._fit = None", 1),
        ("a.b()._c.d", 1),
        ("self._fit, cls._fit, super()._fit", 0),
        ("class A:\n  def _f(self, other):\n    return other._f", 0),
        ("class A:\n  def __init__(self, other):\n    self._f = other._f", 0),
        ("a.__dict__, a.b, _c.d, a._asdict()", 0),
    ],
)
def test_the_rule(source, count):
    assert len(reaches(source)) == count


def test_private_attributes_are_used_in_their_own_files():
    files = {path.relative_to(ROOT).as_posix(): path for path in ROOT.rglob("*.py")}
    assert len(files) > 100 and not set(COMPILER) - set(files)
    found = {name: reaches(path.read_text("utf-8"), name) for name, path in files.items() if name not in COMPILER}
    assert {name: uses for name, uses in found.items() if uses} == {}
