"""User tables through `train`, `evaluate`, `predict`, `sweep` and `export`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import fastmlp as fm
from fastmlp.modules.saving import model_info

pandas = pytest.importorskip("pandas")

ROWS = 300
RNG = np.random.default_rng(0)
A, B = RNG.normal(size=(2, ROWS))
FLAG = RNG.random(ROWS) > 0.5
FRAME = pandas.DataFrame({"a": A, "b": B, "flag": FLAG, "label": np.where(A + B * FLAG > 0, "yes", "no")})
NOTE = "fastmlp: note: "


@pytest.fixture(autouse=True)
def numpy_backend(monkeypatch):
    monkeypatch.setenv("FASTMLP_BACKEND", "numpy")


def write(name, frame=FRAME, **options):
    frame.to_csv(name, **{"index": False, **options})
    return name


def data_options(run):
    return json.loads(Path(run, "config.json").read_text())["data"]


def accuracy(out):
    return float(out.split("accuracy")[1].split()[0])


@pytest.fixture
def trained(fastmlp):
    """A run on a plain table."""
    assert fastmlp("train", "--plain", "--dataset", write("plain.csv"), "--epochs", 12, "--out", "run", "--quiet") == (
        0,
        "",
        "",
    )
    return "run"


# How a file is written, and what is said of it; it holds the same rows each time.
FORMATS = {
    "plain": ({}, []),
    "header": ({"header": False}, ["the first line is taken for a row (--header reads it as column names)"]),
    "semicolons": ({"sep": ";"}, ["separated by ';' (--separator chooses another character)"]),
    "tabs": ({"sep": "\t"}, ["fields are separated by a tab (--separator chooses another character)"]),
    "commas": ({"sep": ";", "decimal": ","}, ["numbers have a decimal comma (--decimal . reads points)"]),
    "labels": ({"index": True}, ["is left out, as labels of the rows (--no-index keeps it as a feature)"]),
}


@pytest.mark.slow
@pytest.mark.parametrize("options, said", FORMATS.values(), ids=FORMATS)
def test_every_format_gives_the_same_model(fastmlp, trained, folder, options, said):
    """A guess is one line; it is saved, and made no second time by evaluate, predict and --resume."""
    write("t.csv", **options)
    code, out, err = fastmlp("train", "--plain", "--dataset", "t.csv", "--epochs", 12, "--out", "other")
    assert code == 0 and "240 training and 60 test rows, 4 features (float32), 2 classes" in out
    assert err.count("\n") == len(said) and all(text in err and err.startswith(NOTE) for text in said)
    models = [fm.load_model(run).state_dict() for run in ("run", "other")]
    for name, array in models[0].items():
        np.testing.assert_array_equal(array, models[1][name])
    expected = fastmlp("evaluate", "run")[1].splitlines()[1:]
    code, out, err = fastmlp("evaluate", "other")
    assert (code, err) == (0, "") and out.splitlines()[1:] == expected
    for run in ("run", "other"):
        code, out, err = fastmlp("evaluate", run, "--dataset", "plain.csv", "--header")
        assert code == 0 and f"plain.csv, {ROWS} rows" in out and accuracy(out) > 0.9
    code, out, err = fastmlp("evaluate", "other", "--dataset", "t.csv")
    assert (code, err) == (0, "") and accuracy(out) > 0.9
    ref = fastmlp("predict", "run", "plain.csv")
    assert fastmlp("predict", "other", "t.csv") == ref and len(ref[1].splitlines()) == ROWS + 1
    assert fastmlp("train", "--resume", "other", "--quiet") == (0, "", "")


def test_formats_may_be_given(fastmlp, trained):
    options = ("--separator", ";", "--decimal", ",", "--no-header")
    write("t.csv", sep=";", decimal=",", header=False)
    assert fastmlp("train", "--plain", "--dataset", "t.csv", *options, "--epochs", 12, "--out", "other", "--quiet") == (
        0,
        "",
        "",
    )
    saved, expected = data_options("other"), {"separator": ";", "decimal": ",", "header": False, "index": False}
    assert {key: saved[key] for key in expected} == expected
    for command in (("evaluate", "run", "--dataset"), ("predict", "run")):
        ref = fastmlp(*command, "plain.csv")[1].splitlines()[1:]
        code, out, err = fastmlp(*command, "t.csv", *options)
        assert (code, err) == (0, "") and out.splitlines()[1:] == ref
    write("tabs.csv", sep="\t")
    for spelling in ("tab", "\\t", "\t"):
        assert fastmlp("evaluate", "run", "--dataset", "tabs.csv", "--separator", spelling)[2] == ""


def test_formats_in_a_file_of_options(fastmlp, folder):
    write("t.csv", header=False)
    lines = ("plain = true", 'dataset = "t.csv"', "header = false", "index = false", 'drop = ["0", "2"]', "epochs = 1")
    (folder / "run.toml").write_text("\n".join(lines))
    code, out, err = fastmlp("train", "--config", "run.toml", "--out", "run")
    assert (code, err) == (0, "") and "1 feature (float32)" in out
    assert "header     none; the columns are named column_0, column_1, column_2, column_3\n" in out


@pytest.mark.slow
def test_a_sweep_passes_notes_on_once(fastmlp, start):
    write("t.csv", header=False)
    table = ("--", "--plain", "--dataset", "t.csv", "--epochs", 1)
    with start("sweep", "--grid", "index=true,false", "--out", "s", *table) as process:
        err = process.communicate(timeout=120)[1]
    assert process.returncode == 0 and err.count("\n") == 1 and "--header reads it as column names" in err
    assert [data_options(f"s/index={on}")["index"] for on in ("true", "false")] == [True, False]


def test_headers_that_are_not_as_in_training(fastmlp, trained):
    write("bare.csv", header=False)
    code, _, err = fastmlp("evaluate", "run", "--dataset", "bare.csv")
    assert code == 1 and err.endswith("; --no-header reads its first line as a row.\n")
    code, _, err = fastmlp("predict", "run", "bare.csv")
    assert code == 1 and err.endswith("; --no-header reads its first line as a row.\n")
    fastmlp("train", "--plain", "--dataset", "bare.csv", "--no-header", "--epochs", 1, "--out", "bare", "--quiet")
    for command in (("evaluate", "bare", "--dataset", "plain.csv"), ("predict", "bare", "plain.csv")):
        code, _, err = fastmlp(*command)
        assert code == 1 and err.endswith("; --header reads the first line as column names.\n")
        assert fastmlp(*command, "--header")[0] == 0


@pytest.mark.slow
@pytest.mark.parametrize("option", [["--header"], ["--no-header"], ["--separator", ";"], ["--decimal", ","]])
def test_formats_are_for_text(fastmlp, trained, option):
    np.save("x.npy", np.zeros((2, 4)))
    name = "--no-header" if option == ["--no-header"] else option[0]
    code, _, err = fastmlp("predict", "run", "x.npy", *option)
    assert code == 1 and name in err and "is for text tables (.csv, .tsv), not for x.npy" in err
    for command in ("train --dataset digits", "evaluate run --dataset digits", "predict run digits"):
        code, _, err = fastmlp(*command.split(), *option)
        assert code == 2 and err.startswith(f"fastmlp: error: {name} applies to tables only; leave it out")


@pytest.mark.slow
def test_evaluation_asks_for_nothing_that_only_training_needs(fastmlp, trained):
    """One class, one row: loss and accuracy of these rows, as of any others."""
    write("yes.csv", FRAME[FRAME["label"] == "yes"])
    code, out, err = fastmlp("evaluate", "run", "--dataset", "yes.csv")
    assert (code, err) == (0, "") and accuracy(out) > 0.9
    write("one.csv", FRAME[:1])
    code, out, err = fastmlp("evaluate", "run", "--dataset", "one.csv")
    assert (code, err) == (0, "") and "one.csv, 1 row\n" in out and accuracy(out) in (0, 1)
    for part in ("yes.csv", "one.csv"):
        assert (
            fastmlp("train", "--plain", "--dataset", "plain.csv", "--test", part, "--epochs", 1, "--out", part[:3])[0]
            == 0
        )
        assert fastmlp("evaluate", "run", "--test", part)[0] == 0
    write("plain.csv", FRAME[FRAME["label"] == "yes"])  # what the run was trained on
    code, out, err = fastmlp("evaluate", "run")
    assert code == 0 and "note: plain.csv has changed since the model was trained." in err
    write("maybe.csv", FRAME.assign(label="maybe"))
    code, _, err = fastmlp("evaluate", "run", "--dataset", "maybe.csv")
    assert code == 1 and "label 'maybe', which is none of the 2 classes of training (so in 300 of 300 rows)" in err


def test_evaluation_of_numbers(fastmlp, folder):
    frame = pandas.DataFrame({"a": A, "b": B, "y": 2 * A})
    fastmlp("train", "--plain", "--dataset", write("t.csv", frame), "--epochs", 12, "--out", "run", "--quiet")
    code, out, err = fastmlp("evaluate", "run", "--dataset", write("one.csv", frame[:1]))
    assert (code, err) == (0, "") and out.endswith("r2        undefined (it needs at least two rows)\n")
    code, out, err = fastmlp("evaluate", "run", "--dataset", write("constant.csv", frame.assign(y=5.0)))
    assert (code, err) == (0, "") and "r2        0.000000" in out
    code, out, err = fastmlp(
        "train", "--plain", "--dataset", "t.csv", "--test", "one.csv", "--epochs", 1, "--out", "other"
    )
    assert (code, err) == (0, "") and "test r2 undefined (it needs at least two rows)" in out
    code, _, err = fastmlp("train", "--plain", "--dataset", write("c.csv", frame.assign(y=5.0)), "--out", "third")
    assert code == 1 and "is the target and is 5.0 in every row" in err


def test_large_losses_are_short(fastmlp):
    write("t.csv", pandas.DataFrame({"a": A, "y": 1e20 * A}))
    code, out, _ = fastmlp(
        "train", "--plain", "--dataset", "t.csv", "--dtype", "float64", "--epochs", 1, "--out", "run"
    )
    assert code == 0 and "e+39, test r2" in out.split("done: test loss ")[1]
    assert "e+39" in fastmlp("evaluate", "run")[1]


def test_predict_leaves_no_row_out(fastmlp, folder):
    """For a model without columns: a first line with a gap is a row with a gap, as any other."""
    assert fastmlp("train", "--epochs", 3, "--out", "run", "--quiet")[0] == 0
    rows = fm.load("digits")[2][:5].astype(int).astype(str).tolist()

    def written(*lines):
        (folder / "t.csv").write_text("\n".join(map(",".join, lines)) + "\n")
        return fastmlp("predict", "run", "t.csv")

    code, ref, err = written(*rows)
    assert (code, err) == (0, "") and len(ref.splitlines()) == 6
    assert written([f"p{i}" for i in range(64)], *rows) == (0, ref, "")
    code, out, err = written(list(map(str, range(64))), *rows)
    assert (code, out) == (0, ref) and err.startswith(NOTE) and "--no-header reads it as a row" in err
    for place in range(5):
        holed = [list(row) for row in rows]
        holed[place][3] = ""
        code, out, err = written(*holed)
        assert (code, out) == (1, "") and f"t.csv, line {place + 1}: '' is not a number" in err
    assert fastmlp("predict", "run", "t.csv", "--no-header")[2].count("\n") == 1


SPELLINGS = {"1/0": (1, 0), "TRUE/FALSE": ("TRUE", "FALSE"), "spaces": ("True ", "False "), "yes/no": ("Yes", "no")}


@pytest.mark.slow
@pytest.mark.parametrize("true, false", SPELLINGS.values(), ids=SPELLINGS)
def test_booleans_in_another_spelling(fastmlp, trained, true, false):
    write("t.csv", FRAME.assign(flag=np.where(FLAG, true, false)))
    for command in (("evaluate", "run", "--dataset"), ("predict", "run")):
        code, out, err = fastmlp(*command, "t.csv")
        ref = fastmlp(*command, "plain.csv")[1]
        assert (code, err) == (0, "") and out.splitlines()[1:] == ref.splitlines()[1:]
    code, _, err = fastmlp("train", "--plain", "--dataset", "t.csv", "--epochs", 1, "--out", "other", "--quiet")
    assert (code, err) == (0, "")
    assert fastmlp("evaluate", "other", "--dataset", "plain.csv")[::2] == (0, "")


def test_unknown_values_are_said(fastmlp, trained):
    write("some.csv", FRAME.assign(flag=["maybe"] * 3 + [str(flag) for flag in FLAG[3:]]))
    write("all.csv", FRAME.assign(flag="maybe"))
    for command in (("evaluate", "run", "--dataset"), ("predict", "run"), ("train", "--plain", "--dataset", "plain.csv",
                    "--out", "other", "--epochs", "1", "--quiet", "--test")):  # fmt: skip
        code, _, err = fastmlp(*command, "some.csv")
        assert code == 0 and err.startswith(NOTE) and err.count("\n") == 1
        assert "values that training did not see have only zeros as features: column 'flag' in 3 of 300 rows" in err
        code, _, err = fastmlp(*command, "all.csv")
        assert code == 1 and "all.csv: column 'flag' holds values that training did not see in 300 of 300 rows" in err


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_digits_are_not_lost(fastmlp, folder, dtype):
    """Times in seconds as a feature and as the target: learnt as well as any other numbers, and predicted whole."""
    t = 1_700_000_000 + RNG.uniform(0, 100, ROWS).round(2)
    y = 1_700_000_000 + 50 * A.round(3)
    write("feature.csv", pandas.DataFrame({"t": t, "b": B, "label": np.where(t > 1_700_000_050, "late", "early")}))
    write("target.csv", pandas.DataFrame({"a": A, "b": B, "y": y}))
    options = ("--epochs", 40, "--dtype", dtype)
    code, out, _ = fastmlp("train", "--plain", "--dataset", "feature.csv", *options, "--out", "f")
    assert code == 0 and float(out.split("test accuracy ")[1].split()[0]) > 0.97
    assert ("centered   t (minus 17000000" in out) == (dtype == "float32")
    code, out, _ = fastmlp("train", "--plain", "--dataset", "target.csv", *options, "--out", "t")
    assert code == 0 and float(out.split("test r2 ")[1].split()[0]) > 0.99
    assert ("centered   the target (minus 1" in out) == (dtype == "float32")
    assert fm.load_model("t").dtype == model_info("t")["preprocessing"]["dtype"] == dtype
    assert "r2        0.99" in fastmlp("evaluate", "t")[1]
    assert "r2        0.99" in fastmlp("evaluate", "t", "--dataset", "target.csv")[1]
    predicted = np.array(fastmlp("predict", "t", "target.csv")[1].splitlines()[1:], float)
    assert np.abs(predicted - y).mean() < 5
    code, _, err = fastmlp("export", "t", "--to", "npz")
    offset = model_info("t")["preprocessing"].get("target_offset")
    assert code == 0 and err == (
        f"{NOTE}for the exported model, add {offset} to the output.\n" if dtype == "float32" else ""
    )
    code, _, err = fastmlp("export", "f", "--to", "npz")
    assert ("for the exported model, subtract these offsets from the columns: t 17000000" in err) == (
        dtype == "float32"
    )


def test_integers_keep_their_value_as_labels(fastmlp, folder):
    labels = np.array([2**53, 2**53 + 1, 123456789012345679])[np.arange(ROWS) % 3]
    write("t.csv", pandas.DataFrame({"a": np.arange(ROWS) % 3, "label": labels}))
    options = ("--task", "classification", "--epochs", 40, "--out", "run")
    code, out, _ = fastmlp("train", "--plain", "--dataset", "t.csv", *options)
    assert code == 0 and "3 classes" in out
    assert fm.load_model("run").classes == list(map(str, sorted(set(labels.tolist()))))
    assert fastmlp("predict", "run", "t.csv")[1].splitlines()[1:4] == list(map(str, labels[:3]))
    assert accuracy(fastmlp("evaluate", "run", "--dataset", "t.csv")[1]) == 1
