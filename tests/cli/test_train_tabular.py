"""`fastmlp train` on tables as ensembles, and the commands that read such a run."""

from __future__ import annotations

import decimal
import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
from checks import assert_matches

import fastmlp as fm
from fastmlp.datasets import pack_cache

pd = pytest.importorskip("pandas")
pytest.importorskip("sklearn")

FEW = ("--nets", 2, "--hidden", 16, "--epochs", 20, "--lr", 0.01)
NOTE = "fastmlp: note: "


def frame(rows=300):
    generator = np.random.default_rng(0)
    size, color = generator.normal(size=rows).round(3), generator.choice(["red", "green", "blue"], rows)
    day = (pd.Timestamp("2024-01-01") + pd.to_timedelta(generator.integers(0, 400, rows), unit="D")).strftime(
        "%Y-%m-%d"
    )
    code = [f"{number:03d}" for number in generator.integers(0, 5, rows)]
    made = pd.DataFrame({"size": size, "color": color, "day": day, "code": code})
    made["label"] = np.where(size + (color == "red") > 0.3, "yes", "no")
    made.loc[::9, "size"] = np.nan
    made.loc[::7, "color"] = None
    return made


FRAME = frame()


def write(name, table=FRAME, **options):
    table.to_csv(name, **{"index": False, **options})
    return name


@pytest.fixture
def trained(fastmlp):
    code, out, err = fastmlp("train", "--dataset", write("t.csv"), *FEW, "--out", "run", "--quiet")
    assert (code, out, err) == (0, "", "")
    return Path("run")


def labels(out):
    return [line.split(",")[0] for line in out.splitlines()[1:]]


def test_a_run_and_its_output(fastmlp):
    code, out, err = fastmlp("train", "--dataset", write("t.csv"), *FEW, "--out", "run")
    assert (code, err) == (0, "")
    assert "data       t.csv: 240 training and 60 test rows, 4 columns, 2 classes\n" in out
    assert "columns    column  kind      missing  encoding\n           size    number " in out
    assert "day     date        0.0%   year, month, day, weekday" in out
    assert "model      2 nets of " in out and "preset balanced, lr 0.01, epochs 20; each net" in out
    assert "done: test loss " in out and "predicted by nets that held them out: loss " in out
    assert out.count("\n      1 ") == 1 and out.count("\n      2 ") == 1
    lines = [json.loads(line) for line in Path("run/metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    assert {line.get("net") for line in lines} == {1, 2, None} and "net" not in lines[-1] and len(lines) == 41
    config = json.loads(Path("run/config.json").read_text(encoding="utf-8"))
    assert config["estimator"] == "TabularClassifier" and config["options"]["n_nets"] == 2
    assert config["results"]["test"]["loss"] == lines[-1]["val_loss"]
    assert f"test accuracy {config['results']['test']['accuracy']:.4f}" in out


def test_the_file_is_the_estimators_own(fastmlp, trained):
    """Same rows and seed, same bits as in Python; and the command predicts as the loaded estimator."""
    model = fm.TabularClassifier.load(trained / "model.safetensors")
    _, out, _ = fastmlp("predict", "run", "t.csv", "--proba")
    read = FRAME.assign(day=pd.to_datetime(FRAME["day"]), code=FRAME["code"].astype(str))
    ref = model.predict_proba(read.drop(columns="label"))
    comp = np.array([line.split(",")[1:] for line in out.splitlines()[1:]], float)
    assert_matches(ref, comp, 1e-14)  # the command does not import Numba
    assert out.startswith("prediction,p_no,p_yes\n") and labels(out) == model.classes_[ref.argmax(axis=1)].tolist()
    assert fastmlp("predict", "run", "t.csv", "--output", "o.csv")[1] == "saved o.csv: 300 predictions\n"
    assert labels(Path("o.csv").read_text(encoding="utf-8")) == labels(out)


def test_same_seed_same_bytes(fastmlp, trained):
    for seed, same in ((42, True), (1, False)):
        options = ("--threads", 2, "--seed", seed, "--out", f"seed{seed}", "--quiet")
        assert fastmlp("train", "--dataset", "t.csv", *FEW, *options) == (0, "", "")
        ref, comp = (fm.TabularClassifier.load(Path(run, "model.safetensors")) for run in ("run", f"seed{seed}"))
        found = [net.state_dict()["0.weight"] for net in (ref.nets_[0], comp.nets_[0])]
        assert np.array_equal(*found) == same


def test_evaluate(fastmlp, trained):
    code, out, err = fastmlp("evaluate", "run")
    results = json.loads((trained / "config.json").read_text(encoding="utf-8"))["results"]["test"]
    assert (code, err) == (0, "") and "on the test rows of t.csv, 60 rows" in out
    assert f"loss      {results['loss']:.6f}\naccuracy  {results['accuracy']:.6f}\n" in out
    code, out, err = fastmlp("evaluate", "run", "--dataset", "t.csv")
    assert (code, err) == (0, "") and "run/model.safetensors on t.csv, 300 rows" in out
    write("t.csv", FRAME.assign(size=FRAME["size"] + 0.1))
    code, out, err = fastmlp("evaluate", "run")
    assert code == 0 and err == f"{NOTE}t.csv has changed since the model was trained.\n"
    assert fastmlp("evaluate", "run/model.safetensors", "--dataset", "t.csv")[0] == 0


def test_tables_in_another_form(fastmlp, trained, folder, monkeypatch):
    pytest.importorskip("pyarrow")
    ref = fastmlp("predict", "run", "t.csv")
    write("semicolons.csv", FRAME[["code", "color", "day", "size"]], sep=";")
    FRAME.to_parquet("t.parquet")
    os.mkdir("parts")
    FRAME[:100].to_parquet("parts/a.parquet"), FRAME[100:].to_parquet("parts/b.parquet")
    FRAME.assign(day=pd.to_datetime(FRAME["day"])).to_parquet("dates.parquet")
    for other in ("semicolons.csv", "t.parquet", "parts", "dates.parquet"):
        code, out, _ = fastmlp("predict", "run", other)
        assert (code, out) == (0, ref[1])
    for other in ("t.parquet", "parts"):
        assert fastmlp("evaluate", "run", "--dataset", other)[0] == 0
    assert fastmlp("train", "--dataset", "dates.parquet", *FEW, "--out", "other", "--quiet") == (0, "", "")
    assert labels(fastmlp("predict", "other", "t.csv")[1]) == labels(fastmlp("predict", "other", "dates.parquet")[1])


def test_regression_and_a_table_without_header(fastmlp):
    numbers = FRAME.assign(label=FRAME["size"].fillna(0) * 10 + 1e6)
    code, out, err = fastmlp("train", "--dataset", write("n.csv", numbers, header=False), *FEW, "--out", "run")
    assert code == 0 and "test rmse " in out and "of standardized targets" in out
    assert err.startswith(NOTE) and "--header" in err
    code, out, err = fastmlp("predict", "run", "n.csv")
    assert (code, err) == (0, "") and np.corrcoef(np.array(labels(out), float), numbers["label"])[0, 1] > 0.9
    assert float(fastmlp("evaluate", "run")[1].split("r2 ")[1]) > 0.8
    assert fastmlp("predict", "run", "n.csv", "--proba")[0] == 2


def test_compare_and_info(fastmlp, trained):
    assert fastmlp("train", "--plain", "--dataset", "t.csv", "--epochs", 2, "--out", "plain", "--quiet")[0] == 0
    code, out, err = fastmlp("compare", "run", "plain")
    assert (code, err) == (0, "") and out.splitlines()[1].startswith("run ") and "not comparable" not in out
    code, out, err = fastmlp("info", "run")
    assert (
        (code, err) == (0, "") and "nets       2, each " in out and "size    number" in out and "test       loss" in out
    )
    code, out, err = fastmlp("info", "plain")
    assert (code, err) == (0, "") and "Linear 100, ReLU" in out and "classification: no, yes" in out
    assert fastmlp("info", "nothing")[0] == 1


def test_resume_and_force(fastmlp, trained):
    before = (trained / "model.safetensors").read_bytes()
    code, out, err = fastmlp("train", "--resume", "run")
    assert (code, err) == (0, "") and "already complete" in out
    assert fastmlp("train", "--dataset", "t.csv", "--out", "run")[0] == 1
    assert (trained / "model.safetensors").read_bytes() == before
    os.remove(trained / "model.safetensors")
    code, _, err = fastmlp("train", "--resume", "run")
    assert code == 1 and "ensembles are not resumed, train it again with --force" in err
    assert fastmlp("train", "--dataset", "t.csv", *FEW, "--out", "run", "--force", "--quiet")[0] == 0
    assert (trained / "model.safetensors").read_bytes() == before


@pytest.mark.parametrize(
    "options, said",
    [
        (("--optimizer", "sgd"), "--optimizer is not for ensembles"),
        (("--dropout", "0"), "--dropout is not for ensembles"),
        (("--steps", 3), "--steps is not for ensembles"),
        (("--tensorboard",), "--tensorboard is not for ensembles"),
        (("--preset", "huge"), "--preset is 'huge'; expected fast, balanced, best"),
        (("--seed", 2**32), "expected at most 4294967295"),
        (("--plain", "--nets", 3), "--nets is for ensembles and cannot be combined with --plain"),
    ],
)
def test_options_that_an_ensemble_lacks(fastmlp, options, said):
    code, _, err = fastmlp("train", "--dataset", write("t.csv"), *options, "--out", "run")
    assert code == 2 and said in err and err.count("\n") == 1 and not Path("run").exists()
    if "not for ensembles" in said:
        assert "--plain trains a single network with it" in err


def test_options_of_ensembles_are_for_tables(fastmlp, monkeypatch):
    np.savez("t.npz", X=np.random.default_rng(0).normal(size=(50, 3)), y=np.arange(50) % 2)
    for dataset in ("digits", "t.npz"):
        code, _, err = fastmlp("train", "--dataset", dataset, "--preset", "fast")
        assert code == 2 and f"leave it out for {dataset}" in err
    monkeypatch.setattr(pack_cache, "LARGE", 100)
    monkeypatch.setenv("FASTMLP_DATA", os.path.abspath("cache"))
    write("t.csv")
    code, _, err = fastmlp("train", "--dataset", "t.csv", "--preset", "fast")
    assert code == 2 and "t.csv is packed and trained as one network" in err
    code, out, err = fastmlp("train", "--dataset", "t.csv", "--epochs", 1, "--hidden", 4, "--out", "run")
    assert code == 0 and f"{NOTE}t.csv is read from disk and trained as one network, as with --plain.\n" in err


def test_wrong_tables_are_one_line(fastmlp, trained):
    write("text.csv", FRAME.assign(size=["old", *["1.5"] * 299]))
    write("dates.csv", FRAME.assign(day="soon"))
    write("colors.csv", FRAME.assign(color="pink"))
    write("few.csv", FRAME[["size", "label"]])
    for name, said in (
        ("text.csv", "text.csv: Column 'size' has values such as 'old'; expected a number"),
        ("dates.csv", "column 'day' holds 'soon'; expected dates such as 2024-01-31"),
        ("colors.csv", "holds categories that training did not see in 300 of 300 rows, such as 'pink'"),
        ("few.csv", "few.csv lacks the column 'color'"),
        ("nothing.csv", "nothing.csv does not exist"),
    ):
        for command in (("evaluate", "run", "--dataset", name), ("predict", "run", name)):
            code, _, err = fastmlp(*command)
            assert code == 1 and said in err and err.count("\n") == 1
    write("infinite.csv", FRAME.assign(size=np.inf))
    code, _, err = fastmlp("train", "--dataset", "infinite.csv", "--out", "other")
    assert code == 1 and "infinite.csv: Column 'size' has inf (infinity) in row 0" in err
    for command in (("predict", "run", "digits"), ("evaluate", "run", "--dataset", "digits")):
        code, _, err = fastmlp(*command)
        assert code == 1 and "digits has no columns" in err
    code, _, err = fastmlp("evaluate", "run", "--backend", "numpy")
    assert code == 2 and "--backend is for single networks" in err
    with pytest.raises(fm.ModelFileError, match="TabularClassifier.load"):
        fm.load_model("run")


@pytest.mark.slow
def test_a_sweep_of_presets(fastmlp, start):
    write("t.csv")
    command = ("sweep", "--grid", "nets=1,2", "--out", "s", "--", "--dataset", "t.csv", "--hidden", 8, "--epochs", 3)
    for _ in range(2):
        with start(*command) as process:
            out, err = process.communicate(timeout=120)
        assert process.returncode == 0 and err == "" and "s/nets=2" in out


def test_export_of_an_ensemble(fastmlp):
    pytest.importorskip("onnx")
    name = write("t.csv", FRAME.drop(columns="day"))
    assert fastmlp("train", "--dataset", name, *FEW, "--out", "run", "--quiet")[0] == 0
    for form in ("onnx", "c"):
        code, out, err = fastmlp("export", "run", "--to", form)
        assert (code, err) == (0, "") and Path(f"run/model.{form}").stat().st_size > 1000
    code, out, err = fastmlp("export", "run", "--to", "npz")
    assert code == 2 and "--to is npz; expected c or onnx for run/model.safetensors, an ensemble for tables" in err


def test_export_of_dates_is_an_error(fastmlp, trained):
    code, out, err = fastmlp("export", trained, "--to", "c")
    assert code == 1 and "Column 'day' holds dates" in err


def test_types_of_parquet_columns(fastmlp):
    """Names that are numbers, dates, decimals and texts of dates."""
    pytest.importorskip("pyarrow")
    made = FRAME[["size", "color", "label"]].copy()
    made["day"] = pd.to_datetime(FRAME["day"]).dt.date
    made["text"] = FRAME["day"]
    made["price"] = [decimal.Decimal(n) / 4 for n in range(len(made))]
    made[["size", "color", "day", "text", "price", "label"]].set_axis(range(6), axis=1).to_parquet("numbers.parquet")
    code, out, err = fastmlp("train", "--dataset", "numbers.parquet", *FEW, "--out", "run")
    assert (code, err) == (0, "")
    columns = re.findall(r"^ {10,} ([0-4]) +(\w+) ", out, re.M)
    assert columns == [("0", "number"), ("1", "category"), ("2", "date"), ("3", "date"), ("4", "number")]
    assert fastmlp("evaluate", "run")[0] == 0
    assert fastmlp("predict", "run", "numbers.parquet")[0] == 0
    # Dates of Parquet are texts in a text table.
    pd.read_parquet("numbers.parquet").to_csv("numbers.csv", index=False)
    ref, comp = (fastmlp("predict", "run", f"numbers.{form}")[1] for form in ("parquet", "csv"))
    assert ref == comp


@pytest.mark.parametrize("zone", ["Z", "+02:00", ""])
def test_times_with_a_zone_are_converted(zone, fastmlp):
    made = FRAME.assign(day=FRAME["day"] + "T01:30:00" + zone)
    assert fastmlp("train", "--dataset", write("t.csv", made), *FEW, "--out", "run", "--quiet")[0] == 0
    ref = fastmlp("predict", "run", "t.csv")[1]
    hours = pd.to_datetime(made["day"], format="ISO8601", utc=True)
    again = made.assign(day=hours.dt.strftime("%Y-%m-%d %H:%M:%S"))
    assert fastmlp("predict", "run", write("utc.csv", again))[1] == ref


def test_a_table_with_a_header_only(fastmlp, trained):
    write("empty.csv", FRAME[:0])
    for command in (("predict", trained, "empty.csv"), ("evaluate", trained, "--dataset", "empty.csv")):
        code, out, err = fastmlp(*command)
        assert code == 1 and "empty.csv has no rows; expected at least one." in err


def test_the_run_folder_of_an_ensemble_loads(trained):
    assert fm.TabularClassifier.load(trained).classes_.tolist() == ["no", "yes"]
    with pytest.raises(fm.ModelFileError, match="has no model.safetensors"):
        fm.TabularClassifier.load(".")
