"""--json: every line of the standard output is an object, and no other text is printed."""

import json

import numpy as np
import pytest

from fastmlp.cli import main


@pytest.fixture
def lines(capsys, tmp_path, monkeypatch):
    """Objects that a command prints; its exit code is 0."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        assert main([*map(str, arguments)]) == 0
        return [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    return run


def test_a_network(lines, tmp_path):
    found = lines("train", "--epochs", 2, "--hidden", 8, "--out", "run", "--json")
    assert [one["event"] for one in found] == ["start", "evaluation", "evaluation", "end"]
    assert found[0]["config"] == json.loads((tmp_path / "run" / "config.json").read_text())
    records = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [{**one, "event": None} for one in found[1:3]] == [{**record, "event": None} for record in records]
    assert found[3]["run"] == "run" and found[3]["ending"] == "done" and found[3]["step"] == records[-1]["step"]
    again = lines("train", "--resume", "run", "--json")
    assert [one["event"] for one in again] == ["start", "end"] and "already complete" in again[1]["ending"]
    (result,) = lines("evaluate", "run", "--json")
    assert result["loss"] == records[-1]["val_loss"] and result["rows"] == 360
    (ranking,) = lines("compare", "run", "--json")
    assert [one["run"] for one in ranking["runs"]] == ["run"] and not (tmp_path / "compare.png").exists()


def test_an_ensemble(lines, tmp_path):
    pytest.importorskip("sklearn")
    x = np.random.default_rng(0).normal(size=(100, 2))
    rows = [f"{a:.4f},{b:.4f},{'left' if a < b else 'right'}" for a, b in x]
    (tmp_path / "table.csv").write_text("\n".join(["a,b,side", *rows]) + "\n")
    found = lines("train", "--dataset", "table.csv", "--preset", "fast", "--epochs", 2, "--out", "run", "--json")
    assert [one["event"] for one in found] == ["start", *["evaluation"] * 4, "end"]
    assert sorted(one["net"] for one in found[1:5]) == [1, 1, 2, 2]
    (result,) = lines("evaluate", "run", "--json")
    assert result["loss"] == pytest.approx(found[-1]["test"]["loss"]) and result["accuracy"] <= 1


def test_numbers_that_are_not_finite_and_usage(capsys):
    from fastmlp.cli.options import print_json

    print_json(a=float("nan"), b=[1.0, float("inf")], c={"d": None})
    assert json.loads(capsys.readouterr().out) == {"a": None, "b": [1.0, None], "c": {"d": None}}
    assert main(["train", "--json", "--quiet"]) == 2
    assert "not allowed with argument" in capsys.readouterr().err
