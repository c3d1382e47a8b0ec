"""The code of the how-to pages runs."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from fastmlp.cli import main

DOCS = Path(__file__).parents[1] / "docs"


def blocks(page, language):
    return re.findall(rf"```{language}\n(.*?)```", (DOCS / page).read_text(encoding="utf-8"), re.S)


@pytest.mark.parametrize(
    "page, needs", [("inference.md", ()), ("training.md", ()), ("exchange.md", ("torch", "onnx", "onnxruntime"))]
)
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
    elif page == "training.md":
        assert names["trainer"].steps == 1
    else:
        assert names["logits"].shape == (4,) and (names["out"][0] == names["logits"]).all()


@pytest.mark.filterwarnings("ignore")
def test_the_page_for_users_of_scikit_learn(tmp_path, monkeypatch):
    pytest.importorskip("skl2onnx")
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    for block in blocks("scikit-learn.md", "python"):
        exec(compile(block, "scikit-learn.md", "exec"), names)
    assert names["score"] > 0.93 and names["labels"].shape == (1,) and names["graph"].graph.node
    assert len(names["curves"][0]) == len(names["curves"][1])


@pytest.mark.slow
def test_the_page_on_training(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    for block in blocks("training.md", "python"):
        exec(compile(block, "training.md", "exec"), names)
    for name in ("augmented", "averaged", "accumulated", "full"):
        assert names[name].evaluate(names["X_test"], names["y_test"])["accuracy"] > 0.85, name
    assert names["loss"] < 0.6 and len((tmp_path / "log.csv").read_text().splitlines()) == 1 + len(names["history"])


def test_the_page_on_tables(tmp_path, monkeypatch, capsys):
    pandas = pytest.importorskip("pandas")
    monkeypatch.chdir(tmp_path)
    rows = [(f"n{i}", 20 + i % 50, i % 3 == 0, ("Oslo", "Bergen")[i % 2]) for i in range(90)]
    frame = pandas.DataFrame(rows, columns=["name", "age", "member", "city"])
    frame.to_csv("people.csv", index=False)
    frame[:7].to_csv("more_people.csv", index=False)
    commands = re.findall(r"^\$ fastmlp (.*)$", (DOCS / "tables.md").read_text(encoding="utf-8"), re.M)
    assert len(commands) == 7
    for command in commands:
        assert main(command.split()) == 0, command
    names: dict = {}
    exec(compile(blocks("tables.md", "python")[0], "tables.md", "exec"), names)
    answers = (tmp_path / "answers.csv").read_text().split()[1:]
    assert len(answers) == 7 and {*answers, *names["answers"].tolist()} <= {"Oslo", "Bergen"}
    assert names["X"].shape == (7, 3) and capsys.readouterr().err == ""


def test_the_page_on_large_data(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    for block in blocks("large-data.md", "python"):
        exec(compile(block, "large-data.md", "exec"), names)
    assert names["trainer"].steps == 125 and names["trainer"].order.kind == "windows"


@pytest.mark.slow
def test_the_page_on_runs(tmp_path, monkeypatch, capsys):
    pytest.importorskip("plotly")
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    for block in blocks("runs.md", "python"):
        exec(compile(block, "runs.md", "exec"), names)
    states = [trainer.model.state_dict() for trainer in (names["whole"], names["again"])]
    assert all((array == states[1][name]).all() for name, array in states[0].items())
    (tmp_path / "run.toml").write_text(blocks("runs.md", "toml")[0])
    page = (DOCS / "runs.md").read_text(encoding="utf-8")
    commands = re.findall(r"^\$ fastmlp (.*)$", page, re.M)
    for command in commands:
        assert main(command.split()) == 0, command
    assert len(commands) == 6 and len(list((tmp_path / "grid").glob("lr*"))) == 2
    assert (tmp_path / "compare.png").is_file() and (tmp_path / "report.html").is_file()
    assert capsys.readouterr().err == ""
