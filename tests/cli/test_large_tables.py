"""Commands on tables that are packed into the cache folder, and on folders of tables: as on small tables."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import numpy as np
import pytest

from fastmlp.datasets import chunks, pack_cache

OPTIONS = ("--plain", "--epochs", 2, "--hidden", 8, "--quiet", "--no-progress")


@pytest.fixture(autouse=True)
def cache(folder, monkeypatch):
    monkeypatch.setenv("FASTMLP_DATA", str(folder / "cache"))
    monkeypatch.setattr(chunks, "_CELLS", 500)
    return folder / "cache" / "packed"


@pytest.fixture
def arrays(folder, rng):
    X = rng.normal(size=(400, 5)).astype(np.float32)
    y = (X[:, 0] > 0).astype(np.int64)
    np.save("n_X.npy", X), np.save("n_y.npy", y)
    np.save("wide.npy", np.column_stack([y, X[:, 1:] * 1e3, X[:, 0] * 1e-3]).astype(np.float64))
    return X, y


def metrics(run):
    lines = map(json.loads, Path(run, "metrics.jsonl").read_text(encoding="utf-8").splitlines())
    return [{key: value for key, value in line.items() if key not in ("seconds", "time")} for line in lines]


def test_arrays(fastmlp, arrays, monkeypatch, cache):
    """Same rows, same steps; what is packed is said once."""
    outputs = []
    for large in (1 << 30, 100):
        monkeypatch.setattr(pack_cache, "LARGE", large)
        run = f"run{large}"
        code, _, err = fastmlp("train", "--dataset", "n_X.npy", "--out", run, *OPTIONS)
        assert code == 0
        assert ("n_X.npy (0 MiB) is packed into" in err) == (large == 100) and len(err.splitlines()) == (large == 100)
        found = [
            fastmlp("evaluate", run),
            fastmlp("evaluate", run, "--dataset", "n_X.npy"),
            fastmlp("predict", run, "n_X.npy", "--proba"),
        ]
        assert [(code, err) for code, _, err in found] == [(0, "")] * 3
        outputs.append([out.replace(run, "run") for _, out, _ in found])
    assert outputs[0] == outputs[1] and metrics("run100") == metrics(f"run{1 << 30}")
    assert fastmlp("train", "--resume", "run100")[::2] == (0, "")
    assert len(os.listdir(cache)) == 1
    assert json.loads(Path("run100/config.json").read_text(encoding="utf-8"))["dataset"]["name"] == "n_X.npy"


def test_a_target_in_a_column(fastmlp, arrays, monkeypatch):
    outputs = []
    for large in (1 << 30, 100):
        monkeypatch.setattr(pack_cache, "LARGE", large)
        options = ("--dataset", "wide.npy", "--target", "0", "--task", "classification")
        assert fastmlp("train", *options, "--out", f"run{large}", *OPTIONS)[0] == 0
        found = [
            fastmlp("evaluate", f"run{large}", "--dataset", "wide.npy"),
            fastmlp("predict", f"run{large}", "wide.npy"),
        ]
        assert [(code, err) for code, _, err in found] == [(0, "")] * 2
        outputs.append([out.replace(f"run{large}", "run") for _, out, _ in found])
    assert outputs[0] == outputs[1] and metrics("run100") == metrics(f"run{1 << 30}")


def test_folders(fastmlp, arrays, folder):
    X, y = arrays
    os.mkdir("shards")
    for number, rows in enumerate((slice(0, 150), slice(150, 400))):
        np.save(f"shards/part{number}_X.npy", X[rows]), np.save(f"shards/part{number}_y.npy", y[rows])
    for run, data in (("one", "n_X.npy"), ("two", "shards")):
        assert fastmlp("train", "--dataset", data, "--out", run, *OPTIONS)[0] == 0
    assert metrics("one") == metrics("two")
    evaluated = [fastmlp("evaluate", *options) for options in (
        ("one",), ("two",), ("one", "--dataset", "n_X.npy"), ("one", "--dataset", "shards"),
    )]  # fmt: skip
    shown = [out.splitlines()[1:] for _, out, _ in evaluated]
    assert shown[0] == shown[1] and shown[2] == shown[3]
    np.save("shards/part2_X.npy", X[:, :3])
    code, _, err = fastmlp("evaluate", "one", "--dataset", "shards")
    assert code == 1 and "part2_y.npy cannot be read" in err and len(err.splitlines()) == 1
    os.mkdir("rows")
    for number in range(2):
        np.save(f"rows/{number}.npy", X[number * 200 : number * 200 + 200])
    assert fastmlp("predict", "one", "rows") == fastmlp("predict", "one", "n_X.npy")
    np.save("rows/2.npy", X[:, :4])
    code, _, err = fastmlp("predict", "one", "rows")
    assert code == 1 and re.search(r"2.npy has 4 columns .* expected the 5 columns of rows.0.npy", err)


def test_tables_of_text_and_parquet(fastmlp, table, monkeypatch, folder):
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    frame = pandas.read_csv("t.csv")
    frame.to_parquet("t.parquet")
    os.mkdir("parts")
    frame[:100].to_parquet("parts/a.parquet"), frame[100:].to_parquet("parts/b.parquet")
    outputs = []
    for large, data in ((1 << 30, "t.csv"), (100, "t.csv"), (100, "t.parquet"), (100, "parts")):
        monkeypatch.setattr(pack_cache, "LARGE", large)
        assert fastmlp("train", "--dataset", data, "--out", "run", "--force", *OPTIONS)[0] == 0
        found = [
            fastmlp("evaluate", "run"),
            fastmlp("evaluate", "run", "--dataset", data),
            fastmlp("predict", "run", data),
        ]
        assert [(code, err) for code, _, err in found] == [(0, "")] * 3
        outputs.append([out.replace(data, "t") for _, out, _ in found] + [metrics("run")])
    assert all(output == outputs[0] for output in outputs)


def test_a_table_that_changed_after_training(fastmlp, arrays, monkeypatch):
    X, _ = arrays
    monkeypatch.setattr(pack_cache, "LARGE", 100)
    assert fastmlp("train", "--dataset", "n_X.npy", "--out", "run", *OPTIONS)[0] == 0
    np.save("n_X.npy", X + 1)
    code, out, err = fastmlp("evaluate", "run")
    assert code == 0 and "n_X.npy has changed since the model was trained" in err and "80 rows" in out
