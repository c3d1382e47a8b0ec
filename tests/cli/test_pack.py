"""`fastmlp pack`, and the commands that read a packed folder."""

from __future__ import annotations

import json

import numpy as np
import pytest

from fastmlp._common import mapped

pandas = pytest.importorskip("pandas")


@pytest.fixture
def table(folder, rng):
    """A table of numbers and texts."""
    frame = pandas.DataFrame(rng.normal(size=(200, 3)), columns=list("abc"))
    frame["color"] = np.where(frame["a"] > 0.3, "red", "blue")
    frame["y"] = np.where(frame["a"] + frame["b"] > 0, "yes", "no")
    frame.to_csv(folder / "t.csv", index=False)
    return frame


def test_packed_data_train_as_the_table(fastmlp, folder, table):
    code, out, err = fastmlp("pack", "t.csv", "--out", "packed")
    assert (code, err) == (0, "")
    assert "t.csv: 200 rows" in out and "statistics of 160 training rows: 4 columns" in out
    assert "160 of 160 training rows written" in out and out.endswith("to train: fastmlp train --dataset packed\n")
    assert "packed: 0.0 MB, X (160, 5) float32, X_test (40, 5), classification" in out
    options = ("--epochs", 3, "--hidden", 8, "--quiet")
    for name, dataset in (("one", "t.csv"), ("two", "packed")):
        assert fastmlp("train", "--plain", "--dataset", dataset, "--out", name, *options)[0] == 0
    ref, comp = ((folder / name / "metrics.jsonl").read_text().splitlines() for name in ("one", "two"))
    drop = ("seconds", "time")
    for a, b in zip(ref, comp, strict=True):
        assert {k: v for k, v in json.loads(a).items() if k not in drop} == {
            k: v for k, v in json.loads(b).items() if k not in drop
        }
    shown = [fastmlp("evaluate", *arguments)[1].splitlines()[1:] for arguments in (
        ("one",), ("two",), ("one", "--dataset", "packed"), ("two", "--dataset", "packed"),
    )]  # fmt: skip
    assert shown[0] == shown[1] == shown[2] == shown[3] and len(shown[0]) > 1
    assert fastmlp("predict", "two", "packed")[1] == fastmlp("predict", "one", "packed")[1]
    assert len(fastmlp("predict", "two", "packed")[1].splitlines()) == 41
    assert fastmlp("train", "--resume", "two")[0] == 0
    assert fastmlp("pack", "--check", "packed")[:2] == (0, "packed: all 0.0 MB are as packed\n")


def test_packed_data_larger_than_memory(fastmlp, folder, table, monkeypatch):
    """The rows are mixed within windows, which the heading says; a resumed run keeps that."""
    assert fastmlp("pack", "t.csv", "--out", "packed", "--quiet")[0] == 0
    monkeypatch.setattr(mapped, "available_memory", lambda: 0)
    code, out, err = fastmlp("train", "--dataset", "packed", "--epochs", 1, "--out", "run")
    heading = "order      windows of 64 blocks of 65,536 rows"
    assert (code, err) == (0, "") and f"{heading} (0 MiB in mapped files, 0 MiB of memory free)\n" in out
    assert json.loads((folder / "run" / "config.json").read_text())["options"]["shuffle"] == "windows"
    assert "order  " not in fastmlp("train", "--dataset", "packed", "--epochs", 1, "--shuffle", "full")[1]
    monkeypatch.setattr(mapped, "available_memory", lambda: 1 << 40)
    code, out, err = fastmlp("train", "--resume", "run")
    assert (code, err) == (0, "") and f"{heading}\n" in out
    assert "order  " not in fastmlp("train", "--dataset", "packed", "--epochs", 1)[1]


def test_a_table_larger_than_the_memory(fastmlp, table, monkeypatch):
    monkeypatch.setattr("fastmlp.datasets.table.available_memory", lambda: 5000)
    code, _, err = fastmlp("train", "--dataset", "t.csv", "--out", "run")
    assert code == 1 and "t.csv has 0 MiB, more than the free memory of 0 MiB; fastmlp pack converts it to" in err
    assert fastmlp("pack", "t.csv", "--out", "packed", "--quiet")[0] == 0
    assert fastmlp("train", "--dataset", "packed", "--epochs", 1, "--out", "run", "--quiet")[0] == 0


def test_quiet(fastmlp, table):
    code, out, err = fastmlp("pack", "t.csv", "--out", "packed", "--quiet", "--test-size", 0.5)
    assert (code, err) == (0, "") and len(out.splitlines()) == 2 and "X (100, 5)" in out


@pytest.mark.parametrize(
    "arguments, code, expected",
    [
        (("t.csv",), 2, "--out is missing; expected the name of a new folder."),
        (("t.csv", "--out", "."), 1, ". exists; expected the name of a new folder."),
        (("t.csv", "--out", "p", "--target", "z"), 1, "t.csv has no column 'z' (target)"),
        (("t.csv", "--out", "p", "--test", "t.csv", "--test-size", "0.1"), 2, "--test and --test-size exclude"),
        (("gone.csv", "--out", "p"), 1, "gone.csv does not exist"),
        (("t.csv", "--out", "gone/deep/p", "--drop", "y"), 1, "is the target and is dropped"),
        (("--check", "t.csv"), 1, "t.csv/packed.json cannot be read"),
    ],
)
def test_mistakes(fastmlp, table, folder, arguments, code, expected):
    found, _, err = fastmlp("pack", *arguments)
    assert found == code and expected in err and err.startswith("fastmlp: error: ") and len(err.splitlines()) == 1
    assert not (folder / "p").exists()


def test_another_preprocessing_than_in_training(fastmlp, folder, table):
    assert fastmlp("train", "--plain", "--dataset", "t.csv", "--epochs", 1, "--quiet", "--out", "run")[0] == 0
    fastmlp("pack", "t.csv", "--out", "other", "--drop", "c")
    for command in (("evaluate", "run", "--dataset", "other"), ("predict", "run", "other")):
        code, _, err = fastmlp(*command)
        assert code == 1 and "other was packed with another preprocessing than that of the model" in err
    code, _, err = fastmlp("train", "--dataset", "other", "--target", "a", "--out", "new")
    assert code == 2 and "--target applies to tables only; leave it out for other." in err
    code, _, err = fastmlp("evaluate", "run", "--dataset", "other", "--header")
    assert code == 2 and "--header applies to tables only" in err
    (folder / "other" / "X_train.npy").write_bytes(b"")
    code, _, err = fastmlp("train", "--dataset", "other", "--out", "new")
    assert code == 1 and "X_train.npy is not a .npy array" in err and not (folder / "new").exists()
