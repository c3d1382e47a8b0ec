"""The Python code of the README runs, and its commands are the documented ones."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.S)


def test_the_examples_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    for block in blocks("python"):
        exec(compile(block, "README.md", "exec"), names)
    assert names["history"][-1]["val_accuracy"] > 0.95
    assert float(capsys.readouterr().out.split()[0]) == names["history"][-1]["val_accuracy"]
    assert names["dx"].shape == (32, 64)
    assert (tmp_path / "digits.safetensors").stat().st_size > 4 * 64 * 100


@pytest.mark.parametrize("marker, last", [("main-command", "fastmlp train"), ("test-command", "python -m pytest -n 2")])
def test_each_command_is_one_line_behind_its_marker(marker, last):
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    (command,) = re.findall(rf"<!-- {marker} -->\n```\n\$ (.*)\n```", text)
    assert command.startswith("python3 -m venv .venv && ") and command.endswith(last)


def test_links_and_paths_lead_somewhere():
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
    table = (ROOT / "README.md").read_text(encoding="utf-8").split("## The code")[1]
    for path in re.findall(r"`(fastmlp/[\w/.]+|docs/[\w.]+)`", table):
        assert (ROOT / path).exists(), path
