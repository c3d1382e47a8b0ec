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
    assert names["net"].score(names["X_test"], names["y_test"]) > 0.9
    assert (tmp_path / "digits.safetensors").stat().st_size > 4 * 64 * 100


@pytest.mark.parametrize("marker, last", [("main-command", "fastmlp train"), ("test-command", "python -m pytest -n 2")])
def test_each_command_is_one_line_behind_its_marker(marker, last):
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    (command,) = re.findall(rf"<!-- {marker} -->\n```\n\$ (.*)\n```", text)
    assert command.startswith("python3 -m venv .venv && ") and command.endswith(last)


def anchors(text):
    """The anchors of the headings of a page, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"```.*?```", "", text, flags=re.S), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


PAGES = [ROOT / f"{name}.md" for name in ("README", "CONTRIBUTING", "CHANGELOG")] + sorted((ROOT / "docs").glob("*.md"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_have_targets(page):
    text = page.read_text(encoding="utf-8")
    for path, anchor in re.findall(r"\]\(([^)#:\s]*)(?:#([^)\s]*))?\)", text):
        target = page.parent / path if path else page
        # Pages that are made when the site is built; its build checks these links.
        if target.parent.name in ("tutorials", "reference") or target.name in ("benchmarks.md", "changelog.md"):
            continue
        assert target.exists(), path
        content = target.read_text(encoding="utf-8") if anchor else ""
        assert not anchor or anchor in anchors(content) or f"::: {anchor}\n" in content, f"{path}#{anchor}"
    for path in re.findall(r"`((?:fastmlp|docs|bench|tests)/[\w/.]+)`", text):
        assert (ROOT / path).exists(), path
