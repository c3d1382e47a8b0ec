"""Fixtures that run the command line, in this process or in a subprocess."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import fastmlp as fm
from fastmlp.cli import main


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Every test in a folder of its own, as run folders are made where one is."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def fastmlp(capsys):
    """(exit code, standard output, standard error) of a command in this process."""

    def run(*arguments):
        code = main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return code, out, err

    return run


@pytest.fixture(scope="session")
def plot_settings(tmp_path_factory):
    """Variables with which matplotlib has a folder of its own where the home folder cannot be written to."""
    if os.access(os.path.expanduser("~"), os.W_OK):
        return {}
    return {"MPLCONFIGDIR": str(tmp_path_factory.mktemp("matplotlib"))}


@pytest.fixture
def start(folder, plot_settings):
    """A command as a process."""

    def popen(*arguments, python=(), **kwargs):
        environment = {
            **plot_settings,
            **os.environ,
            "PYTHONPATH": str(Path(fm.__file__).parents[1]),
            "PYTHONUNBUFFERED": "1",
        }
        environment.update(kwargs.pop("env", {}))
        kwargs = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **kwargs}
        command = [sys.executable, *(python or ("-m", "fastmlp")), *map(str, arguments)]
        return subprocess.Popen(command, env=environment, cwd=folder, **kwargs)

    return popen


@pytest.fixture
def table(folder):
    """A CSV file whose label follows from its columns."""
    pytest.importorskip("pandas", reason="tables need the extra")
    generator = np.random.default_rng(0)
    age, color = generator.uniform(0, 80, 300), generator.choice(["red", "blue"], 300)
    label = np.where((age > 40) == (color == "red"), "yes", "no")
    lines = [f"{a:.1f},{c},{y}" for a, c, y in zip(age, color, label, strict=True)]
    (folder / "t.csv").write_text("age,color,label\n" + "\n".join(lines) + "\n")
    return folder / "t.csv"
