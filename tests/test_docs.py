"""The code in the how-to pages is run as it stands."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"


def blocks(page, language):
    return re.findall(rf"```{language}\n(.*?)```", (DOCS / page).read_text(encoding="utf-8"), re.S)


@pytest.mark.parametrize("page, needs", [("inference.md", ()), ("exchange.md", ("torch", "onnx", "onnxruntime"))])
def test_the_examples_run(page, needs, tmp_path, monkeypatch):
    for package in needs:
        pytest.importorskip(package)
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    for block in blocks(page, "python"):
        exec(compile(block, page, "exec"), names)
    if page == "exchange.md":
        assert names["outputs"].shape == (5, 10) and names["weight"].shape == (32, 64)
        if shutil.which("cc"):
            (tmp_path / "main.c").write_text(blocks(page, "c")[0])
            (command,) = re.findall(r"^\$ (cc .*)$", (DOCS / page).read_text(encoding="utf-8"), re.M)
            subprocess.run(command.split(), check=True)
            subprocess.run(["cc", "main.c", "digits.o", "-o", "main", "-lm"], check=True)
            float(subprocess.run(["./main"], check=True, capture_output=True, text=True).stdout)
    else:
        assert names["logits"].shape == (4,) and (names["out"][0] == names["logits"]).all()
