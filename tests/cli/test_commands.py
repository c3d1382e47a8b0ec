"""`fastmlp evaluate`, `predict`, `gradcheck` and `info`."""

from __future__ import annotations

import csv
import json
import re
import shutil
import sys

import numpy as np
import pytest

import fastmlp as fm
from fastmlp._kernels import cache_files
from fastmlp.losses import loss_types
from fastmlp.modules.config import module_types


@pytest.fixture
def run(fastmlp, folder):
    assert fastmlp("train", "--epochs", 2, "--out", "run", "--quiet")[0] == 0
    return folder / "run"


def test_evaluate_repeats_the_run(fastmlp, run, folder):
    last = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
    for arguments in (
        (run,),
        (run / "model.safetensors",),
        (run, "--dataset", "digits", "--backend", "numpy"),
    ):
        code, out, err = fastmlp("evaluate", *arguments)
        assert (code, err) == (0, "") and "test rows of digits, 360 rows" in out
        values = dict(line.split() for line in out.splitlines()[1:])
        assert float(values["loss"]) == pytest.approx(last["val_loss"], rel=1e-3)
        assert float(values["accuracy"]) == pytest.approx(last["val_accuracy"], abs=1e-6)
    shutil.copy(run / "model.safetensors", folder / "alone.safetensors")
    assert fastmlp("evaluate", "alone.safetensors", "--dataset", "digits")[0] == 0
    code, _, err = fastmlp("evaluate", "alone.safetensors")
    assert code == 2 and "give --dataset" in err


def test_evaluate_tells_when_the_data_changed(fastmlp, run):
    config = json.loads((run / "config.json").read_text())
    config["dataset"]["sha256"] = "0"
    (run / "config.json").write_text(json.dumps(config))
    assert fastmlp("evaluate", run)[2] == "fastmlp: note: digits has changed since the model was trained.\n"
    (run / "config.json").write_text("{")
    code, _, err = fastmlp("evaluate", run)
    assert code == 1 and "config.json is damaged" in err


def test_predict_prints_csv(fastmlp, run, folder):
    code, out, _ = fastmlp("predict", run, "digits")
    _, _, X_test, y_test = fm.load("digits")
    lines = out.splitlines()
    assert code == 0 and lines[0] == "prediction" and len(lines) == 361
    assert np.mean(np.array(lines[1:]) == y_test.astype(str)) > 0.85

    np.save(folder / "x.npy", X_test)
    np.save(folder / "images.npy", X_test.reshape(-1, 8, 8))
    np.savez(folder / "x.npz", X=X_test)
    np.savetxt(folder / "x.csv", X_test, delimiter=",", fmt="%d")
    heading = "\t".join(f"pixel{i}" for i in range(64))
    np.savetxt(folder / "named.tsv", X_test, delimiter="\t", fmt="%d", header=heading, comments="")
    for name in ("x.npy", "images.npy", "x.npz", "x.csv", "named.tsv"):
        assert fastmlp("predict", run, name) == (0, out, "")
    np.save(folder / "row.npy", X_test[0])
    assert fastmlp("predict", run, "row.npy")[1].splitlines() == lines[:2]


def test_predict_writes_probabilities(fastmlp, run, folder):
    code, out, _ = fastmlp("predict", run, "digits", "--proba", "--output", "p.csv")
    assert code == 0 and out == "saved p.csv: 360 predictions\n"
    with open(folder / "p.csv", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert list(rows[0]) == ["prediction", *(f"p_{digit}" for digit in range(10))]
    for row in rows[:20]:
        shares = [float(row[f"p_{digit}"]) for digit in range(10)]
        assert sum(shares) == pytest.approx(1, abs=1e-5) and int(row["prediction"]) == np.argmax(shares)


def test_tables_go_through_the_saved_preprocessing(fastmlp, table, folder):
    fastmlp("train", "--plain", "--dataset", table, "--epochs", 40, "--out", "run", "--quiet")
    lines = table.read_text().splitlines()
    # Other columns in another order, an empty cell, a color never seen, and no label.
    (folder / "new.csv").write_text("color,other,age\nred,1,70\nblue,2,70\n,3,\ngreen,4,10\n")
    code, out, _ = fastmlp("predict", "run", "new.csv")
    assert code == 0 and out.splitlines()[:3] == ["prediction", "yes", "no"] and len(out.splitlines()) == 5
    code, out, _ = fastmlp("evaluate", "run", "--dataset", table)
    assert code == 0 and "300 rows" in out
    part = folder / "part.csv"
    part.write_text("\n".join([lines[0], *lines[1:61]]) + "\n")
    code, out, _ = fastmlp("evaluate", "run", "--dataset", part)
    assert code == 0 and float(out.split()[-1]) > 0.85
    part.write_text(lines[0] + "\n50,red,maybe\n20,blue,no\n")
    code, _, err = fastmlp("evaluate", "run", "--dataset", part)
    assert code == 1 and "label 'maybe', which is none of the 2 classes of training" in err


@pytest.mark.slow
def test_regression_predicts_numbers(fastmlp, folder):
    generator = np.random.default_rng(0)
    X = generator.standard_normal((200, 2))
    np.savez(folder / "t.npz", X=X, y=100 + X @ [5.0, 1.0])
    fastmlp("train", "--dataset", "t.npz", "--epochs", 20, "--out", "run", "--quiet")
    code, out, _ = fastmlp("predict", "run", "t.npz")
    values = np.array(out.splitlines()[1:], float)
    assert code == 0 and np.corrcoef(values, 100 + X @ [5.0, 1.0])[0, 1] > 0.99
    assert "r2        0.9" in fastmlp("evaluate", "run")[1]
    assert "on t.npz, 200 rows" in fastmlp("evaluate", "run", "--dataset", "t.npz")[1]
    code, _, err = fastmlp("predict", "run", "t.npz", "--proba")
    assert code == 2 and "this model is for regression" in err


def test_gradcheck_passes_and_fails_by_its_exit_code(fastmlp, monkeypatch):
    code, out, _ = fastmlp("gradcheck", "--backend", "numpy")
    passed, cases = map(int, re.search(r"(\d+) of (\d+) pass at 1e-06", out).groups())
    assert code == 0 and "FAILED" not in out and passed == cases > 40
    for name in (
        *(kind.__name__ for kind in loss_types()),
        *(name for name in module_types() if name not in ("MLP", "Sequential")),
        "MLP 5-",
    ):
        assert name in out
    from fastmlp._kernels import reference

    def wrong(x, t, w, a, b):
        return (x - t) ** 2, 2.02 * (x - t)

    monkeypatch.setitem(reference._LOSSES, "mse", wrong)
    code, out, _ = fastmlp("gradcheck", "--backend", "numpy")
    assert code == 1 and f"{cases - 5} of {cases} pass" in out
    assert [line.split()[1] for line in out.splitlines() if "FAILED" in line] == [
        *("MSELoss", "MSELoss,", "MSELoss(half=True)", "MSELoss(half=True),"),
        "MLP",
    ]
    assert "analytic" in out and "numerical" in out


def test_info(fastmlp, monkeypatch, folder):
    monkeypatch.setenv("FASTMLP_BACKEND", "numpy")
    monkeypatch.setenv("FASTMLP_DATA", str(folder / "data"))
    code, out, err = fastmlp("info")
    assert (code, err) == (0, "")
    for text in (
        fm.__version__,
        "FASTMLP_BACKEND=numpy",
        "rows x 2 vectors",
        "usable (",
        "Mflop of a step",
        str(folder / "data"),
    ):
        assert text in out
    lines = dict(line.split(maxsplit=1) for line in out.splitlines())
    assert any(name in lines["features"] for name in ("sse", "avx", "neon"))
    monkeypatch.setenv("FASTMLP_BACKEND", "abacus")
    monkeypatch.setenv("FASTMLP_NUM_THREADS", "many")
    code, out, _ = fastmlp("info")
    assert code == 0 and "There is no backend 'abacus'" in out
    assert "threads       none: FASTMLP_NUM_THREADS is 'many'; expected an integer of at least 1." in out


def test_info_without_the_package_that_downloads(fastmlp, monkeypatch):
    monkeypatch.delenv("FASTMLP_DATA", raising=False)
    monkeypatch.setitem(sys.modules, "pooch", None)
    code, out, err = fastmlp("info")
    assert (code, err) == (0, "")
    assert "data folder   none: Downloading needs the package pooch" in out


def test_info_counts_the_kernels_that_are_kept(fastmlp, monkeypatch, folder):
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(folder / "kernels"))
    kept = cache_files()[0]
    assert f"kernel cache  {kept} (NUMBA_CACHE_DIR): 0 files, 0.0 MB" in fastmlp("info")[1]
    (kept / "fastmlp_a.0.1.o").write_bytes(bytes(1_300_000))
    (kept / "fastmlp_gone.0.1.o").symlink_to(folder / "nowhere")
    assert ": 2 files, 1.3 MB" in fastmlp("info")[1]
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(kept / "fastmlp_a.0.1.o"))
    assert "kernel cache  none: no folder is writable" in fastmlp("info")[1]


def test_version_and_help(fastmlp):
    assert fastmlp("--version")[:2] == (0, f"fastmlp {fm.__version__}\n")
    for command in ("train", "evaluate", "predict", "gradcheck", "info", "warmup"):
        code, out, _ = fastmlp(command, "--help")
        assert code == 0 and f"usage: fastmlp {command}" in out
        assert command in fastmlp("--help")[1]
    assert "cifar10: --hidden 100 --activation elu" in fastmlp("train", "--help")[1]
    code, _, err = fastmlp()
    assert code == 2 and "usage: fastmlp" in err
