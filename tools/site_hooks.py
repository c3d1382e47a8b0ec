"""Hooks of the documentation site (mkdocs.yml): generated pages, links to files of the repository, and formulas.

Tutorials are made from the scripts in examples/, the page of the command line from its parsers, the benchmarks from
the files in bench/results. Formulas become MathML, which browsers draw without a script.
"""

from __future__ import annotations

import contextlib
import functools
import html
import io
import os
import re
import subprocess
import sys
import tempfile
import unittest.mock
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert
from mkdocs.structure.files import File

ROOT = Path(__file__).parents[1]
_COPIED = {"changelog.md": "CHANGELOG.md"}
_SPAN = re.compile(r'<(span|div) class="arithmatex">\\([(\[])(.*?)\\[)\]]</\1>', re.S)


def on_files(files: Any, config: Any) -> Any:
    """Add the generated pages."""
    sys.path.insert(0, str(ROOT))
    pages = {page: (ROOT / source).read_text(encoding="utf-8") for page, source in _COPIED.items()}
    pages |= dict(tutorials())
    pages["reference/command-line.md"] = command_line()
    pages["benchmarks.md"] = benchmarks()
    for path, content in pages.items():
        files.append(File.generated(config, path, content=content))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Point links to files outside docs/ at the repository, and links of copied pages at their place here."""
    depth = "../" * page.file.src_uri.count("/")

    def replace(found: re.Match[str]) -> str:
        target, anchor = found[1], found[2] or ""
        if target.startswith("docs/"):
            return f"]({depth}{target.removeprefix('docs/')}{anchor})"
        name = target.removeprefix("../")
        if target.startswith("../") and name in _COPIED.values():
            return f"]({depth}{name.lower()}{anchor})"
        if not (ROOT / "docs" / page.file.src_uri).parent.joinpath(target).exists() or target.startswith("../"):
            if (ROOT / name).exists():
                return f"]({config['extra']['repository']}/blob/main/{name}{anchor})"
        return found[0]

    return re.sub(r"\]\((?!https?://|#)([\w./-]+)(#[\w-]+)?\)", replace, markdown)


def on_page_content(content: str, page: Any, config: Any, files: Any) -> str:
    """Convert TeX to MathML."""

    def replace(found: re.Match[str]) -> str:
        text = html.unescape(found[3]).strip()
        if found[2] == "(":
            return convert(text)
        return f'<div class="formula">{convert(text, display="block")}</div>'  # scrolls on narrow screens

    return _SPAN.sub(replace, content)


# ----------------------------------------------------------------------------------------------------- tutorials


def tutorials() -> Iterator[tuple[str, str]]:
    """Return a page for each script in examples/, and their index."""
    rows = []
    for path in sorted((ROOT / "examples").glob("*.py")):
        title, page = tutorial(path)
        rows.append((title, path.stem))
        yield f"tutorials/{path.stem}.md", page
    listed = "\n".join(f"- [{title}]({stem}.md)" for title, stem in rows)
    yield (
        "tutorials/index.md",
        f"# Tutorials\n\nEach tutorial is a script that runs in less than a minute.\n\n{listed}\n",
    )


def tutorial(path: Path) -> tuple[str, str]:
    """Return the title and the page of a script.

    The docstring is the introduction, its first sentence the title; comments of more than one line at the margin become
    text, and the code between them blocks.
    """
    source = path.read_text(encoding="utf-8")
    docstring, code = re.match(r'"""(.*?)"""\n(.*)', source, re.S).groups()  # type: ignore[union-attr]
    title, _, introduction = docstring.partition("\n")
    parts = [f"# {title.rstrip('.')}", introduction.strip("\n"), f"The script is `examples/{path.name}`."]
    block: list[str] = []
    text: list[str] = []

    def close() -> None:
        if "\n".join(block).strip():
            parts.append("```python\n" + "\n".join(block).strip("\n") + "\n```")
        block.clear()

    for line in [*code.splitlines(), ""]:
        if line.startswith("#"):
            if not text:
                close()
            text.append(line[1:].removeprefix(" "))
        else:
            if text:
                parts.append("\n".join(text))
                text = []
            block.append(line)
    close()
    parts += ["## Output", f"```text\n{output(path, source)}```"]
    return title.rstrip("."), "\n\n".join(parts) + "\n"


@functools.cache
def output(path: Path, source: str) -> str:
    """Return the output of a script; ``source`` is its content, so that `mkdocs serve` runs a changed script again."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "MPLBACKEND": "Agg"}
    with tempfile.TemporaryDirectory() as folder:
        environment["TMPDIR"] = folder
        command = [sys.executable, str(path)]
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{path.name} failed: {done.stderr}")
        return re.sub(rf"{re.escape(folder)}/tmp\w+/", "", done.stdout)


# -------------------------------------------------------------------------------------------------- command line


def command_line() -> str:
    """Return the help of all commands."""
    from fastmlp.cli import COMMANDS, main

    parts = ["# Command line"]
    for command in ("", *COMMANDS):
        text = io.StringIO()
        with contextlib.redirect_stdout(text), unittest.mock.patch.dict(os.environ, {"COLUMNS": "100"}):
            main([*command.split(), "--help"])
        parts += [f"## fastmlp {command}".rstrip(), f"```text\n{text.getvalue()}```"]
    return "\n\n".join(parts) + "\n"


# ---------------------------------------------------------------------------------------------------- benchmarks


_BENCHMARKS = {
    "bench": "Training steps",
    "inference": "Predictions",
    "startup": "Processes up to the end of a first small fit",
}


def _date(path: Path) -> str:
    return path.stem[-10:]


def benchmarks() -> str:
    """Return the tables of all committed measurements, the newest first."""
    from fastmlp.benchmark import report

    parts = [
        "---\nhide: [navigation, toc]\n---",
        "# Benchmarks",
        "Measurements by `fastmlp bench`, a table for each processor and day. "
        "[Training performance](performance.md) explains the cases; [inference](inference.md#measurements), "
        "[estimators](scikit-learn.md#speed), [tables](tabular.md#measurements) and "
        "[data on disk](large-data.md#speed) have measurements of their own.",
    ]
    for kind, title in _BENCHMARKS.items():
        parts.append(f"## {title}")
        for path in sorted((ROOT / "bench/results").glob(f"{kind}-*.json"), key=_date, reverse=True):
            document = report.read(path)
            parts += [f"### {document['machine']['cpu']}, {document['date'][:10]}", report.table(document)]
    return "\n\n".join(parts) + "\n"
