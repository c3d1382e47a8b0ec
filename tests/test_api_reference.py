"""Docstrings of the public names: each has one, describes all parameters, and shows an example that runs."""

from __future__ import annotations

import inspect
import os
import re
import subprocess
import sys
from operator import attrgetter
from pathlib import Path

import pytest

import fastmlp as fm

# Runs in a process of its own, as examples register classes and change the backend.
_DOCTESTS = """
import doctest, inspect, operator, sys
import fastmlp as fm

runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
for name in sys.argv[1:]:
    value = operator.attrgetter(name)(fm)
    module = value if inspect.ismodule(value) else sys.modules[value.__module__]
    for test in doctest.DocTestFinder(recurse=not inspect.ismodule(value)).find(value, name, module=module):
        runner.run(test)
result = runner.summarize()
print("examples:", result.attempted)
sys.exit(bool(result.failed))
"""


def available():
    """Return the public names whose libraries are installed."""
    names = [name for name in fm.__all__ if name not in ("__version__", "datasets", "distributed")]
    return names + [f"distributed.{name}" for name in fm.distributed.__all__]


def parameters(value):
    names = inspect.signature(value).parameters.values()
    return [one.name for one in names if one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD) and one.name != "self"]


def test_the_examples_run(tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(Path(fm.__file__).parents[1]), "PYTHONWARNINGS": "default"}
    command = [sys.executable, "-c", _DOCTESTS, *available()]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(re.search(r"examples: (\d+)", done.stdout)[1]) > 300


@pytest.mark.parametrize("name", available())
def test_docstrings_are_complete(name):
    value = attrgetter(name)(fm)
    text = inspect.getdoc(value) or ""
    assert len(text.splitlines()[0]) > 10 and ">>>" in text
    if not callable(value) or (isinstance(value, type) and issubclass(value, (Exception, Warning))):
        return
    described = set(re.findall(r"[\w*]+", " ".join(re.findall(r"^([\w*, ]+?)(?: :.*)?$", text, re.M))))
    assert set(parameters(value)) <= described, set(parameters(value)) - described
    if isinstance(value, type):
        for method, function in vars(value).items():
            if not method.startswith("_") and (callable(function) or isinstance(function, property)):
                assert inspect.getdoc(getattr(value, method)), method


def test_the_reference_has_every_public_name_once():
    pages = (Path(__file__).parents[1] / "docs/api").glob("*.md")
    shown = [
        name
        for page in pages
        for name in re.findall(r"^::: fastmlp\.([\w.]+)$", page.read_text(encoding="utf-8"), re.M)
    ]
    inner = [f"distributed.{name}" for name in fm.distributed.__all__]
    assert sorted(shown) == sorted([*fm._NAMES, *inner, "datasets.pack"])
