"""Invalid files and values: one line on standard error, and an older run is unchanged."""

from __future__ import annotations

import json

import numpy as np
import pytest

import fastmlp as fm


@pytest.fixture(autouse=True)
def numpy_backend(monkeypatch):
    monkeypatch.setenv("FASTMLP_BACKEND", "numpy")


@pytest.fixture
def refused(fastmlp):
    """The one line of an error, without the command's name."""

    def run(code, *arguments):
        seen, _, err = fastmlp(*arguments)
        assert seen == code and err.startswith("fastmlp: error: ") and err.count("\n") == 1
        return err.removeprefix("fastmlp: error: ")

    return run


@pytest.fixture
def trained(fastmlp, folder):
    assert fastmlp("train", "--epochs", 1, "--out", "run", "--quiet")[0] == 0
    return folder / "run"


TOO_LARGE = {
    "hidden": (["--hidden", "9" * 20], 10**8),
    "batch": (["--batch-size", 2**63], 2**63 - 1),
    "epochs": (["--epochs", "9" * 5000], 2**63 - 1),
    "seed": (["--seed", 2**64], 2**64 - 1),
}


@pytest.mark.parametrize("arguments, most", TOO_LARGE.values(), ids=TOO_LARGE)
def test_numbers_too_large(arguments, most, refused):
    message = refused(2, "train", *arguments)
    assert f"is too large; expected at most {most}" in message and len(message) < 200


@pytest.mark.slow
def test_names_that_are_none(refused, trained):
    assert refused(2, "train", "--out", "") == "--out is empty; expected a folder.\n"
    for arguments in (
        ("train", "--dataset", "~no-such-user/x.csv"),
        ("evaluate", "~no-such-user/run"),
        ("predict", trained, "~no-such-user/x.csv"),
    ):
        assert "~no-such-user" in refused(1, *arguments)
    assert refused(1, "evaluate", trained, "--dataset", ".").startswith(". has no table; expected tables of one kind")
    assert refused(1, "predict", trained, "digits", "--output", "").startswith("'': ")
    assert "--target applies to tables only; leave it out for digits" in refused(
        2, "evaluate", trained, "--target", "x"
    )


CONFIGS = ("5", "[]", '{"data": 5}', '{"data": {"dataset": 5}}', '{"data": {"dataset": "digits"}, "dataset": 5}',
           '{"data": {"dataset": "digits", "data_dir": 5}}', "[" * 100_000)  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("config", CONFIGS, ids=range(len(CONFIGS)))
def test_a_damaged_config(config, refused, trained):
    (trained / "config.json").write_text(config)
    assert "config.json is damaged: " in refused(1, "evaluate", trained)


@pytest.mark.parametrize("classes", [["a"], [[1]] * 3])
def test_classes_that_do_not_fit(classes, refused, folder):
    model = fm.MLP(64, [], 3)
    model.task, model.classes = "classification", classes
    fm.save(model, folder / "m")
    assert "classes are not 3 labels" in refused(1, "predict", "m", "digits")


@pytest.mark.parametrize("text", ["", "\n", "a,b\n"])
def test_predict_without_rows(text, refused, trained, folder):
    (folder / "t.csv").write_text(text)
    expected = "is empty; expected a line" if not text.strip() else "has no rows of numbers; expected at least one"
    assert f"t.csv {expected}" in refused(1, "predict", trained, "t.csv")


def test_odd_text_tables(refused, trained, folder):
    (folder / "t.csv").write_text("1" * 200_000 + ",2\n")
    assert "t.csv cannot be read as a table" in refused(1, "predict", trained, "t.csv")
    pytest.importorskip("pandas", reason="tables need the extra")
    (folder / "t.csv").write_text("a,b\n" + f"{'9' * 400},1\n1,0\n" * 10)
    assert "an integer too large for float64" in refused(1, "train", "--dataset", "t.csv")
    (folder / "t.csv").write_text("a,b\n1,x\n2,y\n")
    assert "t.csv has 2 rows, too few to hold out test rows; expected more rows, or --test FILE." in refused(
        1, "train", "--dataset", "t.csv", "--out", "other"
    )
    (folder / "t.csv").write_text("a,b\n" + "".join(f"{i},{i * 1.5}\n" for i in range(30)))
    message = refused(1, "train", "--dataset", "t.csv", "--task", "classification", "--out", "third")
    assert "t.csv has a class for each of its 30 rows; expected --task regression." in message
    (folder / "t.csv").write_text("a,b\n" + "".join(f"{i},{i * 1.5 if i != 7 else '1O'}\n" for i in range(30)))
    assert "each of its 30 rows, as '1O' is not a number." in refused(
        1, "train", "--dataset", "t.csv", "--out", "third"
    )
    (folder / "t.csv").write_text("a,b\n" + "".join(f"{i if i != 7 else 'O'},{i % 2}\n" for i in range(2000)))
    message = refused(1, "train", "--dataset", "t.csv", "--out", "third")
    assert "column 'a' has values that are not numbers, such as 'O'" in message
    assert not (folder / "other").exists()


def test_a_failing_start_leaves_the_run_that_force_would_overwrite(refused, trained, monkeypatch):
    from fastmlp.io import files

    def full(descriptor):
        raise OSError(28, "No space left on device")

    before = {path.name: path.read_bytes() for path in trained.iterdir()}
    with monkeypatch.context() as patch:
        patch.setattr(files.os, "fsync", full)
        assert "No space left" in refused(1, "train", "--out", trained, "--force", "--seed", 1)
    assert {path.name: path.read_bytes() for path in trained.iterdir()} == before


def test_targets_in_a_file_of_their_own(fastmlp, folder, monkeypatch):
    generator = np.random.default_rng(0)
    X, y = generator.standard_normal((100, 4)), np.arange(100) % 3
    np.save(folder / "x.npy", X)
    (folder / "labels").mkdir()
    np.save(folder / "labels" / "y.npy", y)
    given = ("--dataset", "x.npy", "--target", "labels/y.npy")
    assert fastmlp("train", *given, "--epochs", 3, "--out", "run", "--quiet")[0] == 0
    model = fm.load_model(folder / "run" / "model.safetensors")
    accuracy = np.mean(model.infer(X).argmax(axis=1) == y)
    for arguments in (given, given[:2]):
        code, out, err = fastmlp("evaluate", "run", *arguments)
        assert (code, err) == (0, "") and "100 rows" in out and float(out.split()[-1]) == pytest.approx(accuracy)
    expected = fastmlp("evaluate", "run")[1].splitlines()[1:]
    assert json.loads((folder / "run" / "config.json").read_text())["data"]["target"] == str(
        folder / "labels" / "y.npy"
    )
    monkeypatch.chdir(folder / "labels")
    assert fastmlp("evaluate", folder / "run")[1].splitlines()[1:] == expected


WITHOUT_LIBRARY = """
import sys
from fastmlp._kernels.compiled import library
library._choose = lambda width: library._Choice(None, "the library is gone")
from fastmlp.cli import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.slow
def test_the_first_run_says_that_it_compiles(start, folder):
    pytest.importorskip("numba")
    arguments = ("train", "--steps", 1, "--hidden", "", "--backend", "numba")
    # Twice with kernels of this process's cache: the second time nothing is said, as nothing is compiled.
    for name in ("a", "b"):
        with start(*arguments, "--out", name, python=("-c", WITHOUT_LIBRARY), env={"FASTMLP_JIT": ""}) as process:
            _, err = process.communicate(timeout=240)
        assert process.returncode == 0
    assert err == ""
    # In an empty one it is said at the start. What follows need not be waited for.
    unset = {"FASTMLP_JIT": "", "FASTMLP_LANES": "", "NUMBA_CACHE_DIR": str(folder / "cache")}
    with start(*arguments, "--out", "c", python=("-c", WITHOUT_LIBRARY), env=unset) as process:
        said = process.stderr.readline()
        process.kill()
    assert said.startswith(
        "fastmlp: note: Numba compiles the kernels when they are first used, for about 20 s in all; "
    )
    assert str(folder / "cache") in said and said.endswith("the library is gone.\n")
