"""Errors and interruptions of the command line: one line each, and no partial files."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import fastmlp as fm

posix = pytest.mark.skipif(os.name != "posix", reason="needs POSIX")

USAGE = {
    "command": (["trian"], "invalid choice: 'trian'"),
    "option": (["train", "--lerning-rate", "1"], "unrecognized arguments: --lerning-rate"),
    "abbreviation": (["train", "--opt", "sgd"], "unrecognized arguments: --opt"),
    "rate": (["train", "--lr", "-1"], "'-1' is not a number of at least 0"),
    "rate of text": (["train", "--lr", "fast"], "'fast' is not a number"),
    "rate of nan": (["train", "--lr", "nan"], "'nan' is not a number"),
    "both lengths": (["train", "--steps", "1", "--epochs", "1"], "not allowed with argument"),
    "steps": (["train", "--steps", "0"], "'0' is not an integer of at least 1"),
    "batch": (["train", "--batch-size", "1.5"], "'1.5' is not an integer"),
    "hidden": (["train", "--hidden", "10,,10"], "'' is not an integer of at least 1"),
    "hidden of 0": (["train", "--hidden", "10,0"], "'0' is not an integer of at least 1"),
    "activation": (["train", "--activation", "step"], "invalid choice: 'step'"),
    "init": (["train", "--init", "random"], "invalid choice: 'random'"),
    "backend": (["train", "--backend", "abacus"], "invalid choice: 'abacus'"),
    "momentum": (["train", "--momentum", "0.9"], "--momentum is for rmsprop and sgd, not for adam"),
    "target": (["train", "--target", "x"], "--target applies to tables only; leave it out for digits"),
    "test size": (["train", "--dataset", "t.csv", "--test-size", "1"], "above 0 and below 1"),
    "two tests": (
        ["train", "--dataset", "t.csv", "--test-size", "0.5", "--test", "u.csv"],
        "exclude each other",
    ),
    "no model": (["evaluate"], "the following arguments are required"),
}


@pytest.mark.parametrize("arguments, message", USAGE.values(), ids=USAGE)
def test_bad_usage_is_one_line_and_code_2(arguments, message, fastmlp, folder):
    code, out, err = fastmlp(*arguments)
    assert code == 2 and out == "" and message in err
    assert err.startswith("fastmlp: error: ") and err.count("\n") == 1
    assert os.listdir(folder) == []


FAILURES = {
    "data set": (["train", "--dataset", "nope"], "no data set named 'nope'"),
    "missing table": (["train", "--dataset", "missing.csv"], "missing.csv does not exist"),
    "below a file": (["train", "--out", "file/run"], "file/run"),
    "a file": (["train", "--out", "file"], "file is a file; expected a new name or an empty folder"),
    "no run": (["evaluate", "nowhere"], "nowhere does not exist; expected a run folder or a saved model"),
    "no model in it": (["evaluate", "."], ". has no model.safetensors"),
    "not a model": (["evaluate", "file"], "file is damaged or not a safetensors file"),
    "no rows": (["predict", "model", "missing.csv"], "missing.csv does not exist"),
    "width": (["predict", "model", "narrow.npy"], "X has shape (3, 5); expected (N, 64)"),
    "nan": (["predict", "model", "nan.npy"], "nan at row 1, column 2"),
    "text": (["predict", "model", "words.csv"], "words.csv, line 2: 'b' is not a number"),
    "short line": (["predict", "model", "short.csv"], "short.csv, line 1 has 2 numbers, expected 64"),
    "truncated": (["predict", "model", "cut.npy"], "cut.npy"),
    "no rows' kind": (["predict", "model", "file"], "file has an unknown suffix; expected .npy"),
    "output folder": (
        ["predict", "model", "digits", "--output", "no/p.csv"],
        "no/p.csv: No such file or directory",
    ),
    "evaluate's table": (["evaluate", "model", "--dataset", "no.csv"], "no.csv does not exist"),
}


@pytest.mark.parametrize("arguments, message", FAILURES.values(), ids=FAILURES)
def test_failures_are_one_line_and_code_1(arguments, message, fastmlp, folder):
    (folder / "file").write_text("hello")
    model = fm.MLP(64, [], 10, rng=0)
    model.task = "classification"
    fm.save(model, folder / "model")
    np.save(folder / "narrow.npy", np.zeros((3, 5)))
    holes = np.zeros((3, 64))
    holes[1, 2] = np.nan
    np.save(folder / "nan.npy", holes)
    (folder / "words.csv").write_text("a\nb\n")
    (folder / "short.csv").write_text("1,2\n")
    (folder / "cut.npy").write_bytes((folder / "nan.npy").read_bytes()[:-8])
    code, _, err = fastmlp(*arguments)
    assert code == 1 and message in err
    assert err.startswith("fastmlp: error: ") and err.count("\n") == 1


def test_tracebacks_on_request(fastmlp, monkeypatch):
    monkeypatch.setenv("FASTMLP_TRACEBACK", "1")
    with pytest.raises(fm.ModelFileError):
        fastmlp("evaluate", "nowhere")


def test_divergence_saves_the_last_good_weights(fastmlp, folder):
    code, out, err = fastmlp("train", "--optimizer", "sgd", "--lr", "1e30", "--out", "run")
    assert code == 1 and "the loss of step 2 is" in err and "1e+30" in err and err.count("\n") == 1
    assert "saved in" in err
    weights = fm.load_model(folder / "run" / "model.safetensors").state_dict()
    assert all(np.isfinite(array).all() for array in weights.values())
    assert (folder / "run" / "metrics.jsonl").read_text() == ""


def test_metrics_are_there_while_it_runs(fastmlp, folder, monkeypatch):
    """Each line and the model of that moment are on the disk when the line is printed."""
    from fastmlp.cli.console import MetricsTable

    seen = []

    def look(self, trainer, record):
        lines = (folder / "run" / "metrics.jsonl").read_text().splitlines()
        same = fm.load_model(folder / "run" / "model.safetensors").state_dict()
        seen.append(json.loads(lines[-1]) == record and len(lines))
        for name, array in trainer.model.state_dict().items():
            assert np.array_equal(array, same[name])

    monkeypatch.setattr(MetricsTable, "on_evaluation", look)
    fastmlp("train", "--epochs", 3, "--out", "run")
    assert seen == [1, 2, 3]


@pytest.mark.usefixtures("interruptible")
@posix
def test_ctrl_c_saves_what_was_reached(start, folder):
    with start("train", "--epochs", 100_000, "--eval-every", 30, "--out", "run") as process:
        for line in process.stdout:
            if line.split()[:1] == ["90"]:
                break
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (130, "")
    assert "stopped by Ctrl-C after" in out and "saved run: model.safetensors" in out
    records = [json.loads(line) for line in (folder / "run" / "metrics.jsonl").read_text().splitlines()]
    assert len(records) >= 3 and records[2]["step"] == 90
    assert fm.load_model(folder / "run" / "model.safetensors").task == "classification"


def test_ctrl_c_before_the_first_step(fastmlp, folder, monkeypatch):
    """There is nothing to go on with, and no average."""

    def interrupt(self, trainer):
        raise KeyboardInterrupt

    from fastmlp.cli.console import MetricsTable

    monkeypatch.setattr(MetricsTable, "on_fit_begin", interrupt)
    code, out, err = fastmlp("train", "--average", 0.9, "--out", "run")
    assert (code, err) == (130, "") and "stopped by Ctrl-C after 0 of" in out
    assert "to resume" not in out or (folder / "run" / "training.safetensors").is_file()


@pytest.mark.slow
@posix
def test_without_an_output(start, folder):
    """Closed by the shell, or never there, as under pythonw."""
    command = 'exec "$0" -m fastmlp train --epochs 1 --out run >&- 2>&-'
    with start(
        python=("-c", "import os, sys; os.execlp('sh', 'sh', '-c', sys.argv[1], sys.executable)", command)
    ) as child:
        assert child.wait(100) == 0
    assert (folder / "run" / "model.safetensors").is_file()


@posix
def test_a_killed_run_leaves_whole_files(start, folder):
    with start("train", "--epochs", 100_000, "--eval-every", 1, "--out", "run") as process:
        for line in process.stdout:
            if line.split()[:1] == ["5"]:
                break
        time.sleep(0.05)
        process.kill()
        process.communicate()
    text = (folder / "run" / "metrics.jsonl").read_text()
    assert text.endswith("\n") and len([json.loads(line) for line in text.splitlines()]) >= 5
    fm.load_model(folder / "run" / "model.safetensors")


@pytest.mark.slow
@posix
def test_a_reader_that_leaves(start):
    with start("train", "--epochs", 3, "--out", "run") as process:
        process.stdout.readline()
        process.stdout.close()
        err = process.stderr.read()
    assert process.returncode == 1 and err == ""


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
def test_output_to_a_full_disk(start):
    with open("/dev/full", "w") as full, start("info", stdout=full) as process:
        err = process.stderr.read()
    assert process.returncode == 1 and err == "fastmlp: error: No space left on device.\n"


LIMITED = """
import resource, sys
from fastmlp.cli import main
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), resource.RLIM_INFINITY))
sys.exit(main(sys.argv[2:]))
"""


@pytest.mark.slow
@posix
def test_no_room_for_the_model_is_found_before_training(start, folder):
    with start("train", "--out", "run", python=("-c", LIMITED, "20000")) as process:
        out, err = process.communicate(timeout=60)
    assert process.returncode == 1 and err == "fastmlp: error: run/model.safetensors: File too large.\n"
    assert not any(line.split()[:1] == ["45"] for line in out.splitlines())
    assert "model.safetensors" not in os.listdir(folder / "run")


@pytest.mark.slow
@posix
def test_the_disk_fills_up_during_the_run(start, folder):
    """The state, whose history grows, meets the limit: the run fails, what it had saved stays whole."""
    arguments = ("train", "--epochs", 100, "--eval-every", 1, "--hidden", "", "--out", "run")
    with start(*arguments, python=("-c", LIMITED, "20000")) as process:
        out, err = process.communicate(timeout=60)
    assert process.returncode == 1 and err == "fastmlp: error: run/training.safetensors: File too large.\n"
    lines = (folder / "run" / "metrics.jsonl").read_text().splitlines()
    assert len(lines) > 20 and [json.loads(line)["step"] for line in lines] == list(range(1, len(lines) + 1))
    fm.load_model(folder / "run" / "model.safetensors")


@pytest.mark.skipif(not sys.platform.startswith("linux") or os.geteuid() != 0, reason="mounting needs root")
def test_a_disk_that_is_really_full(fastmlp, folder):
    disk = folder / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk], capture_output=True)
    if mounted.returncode:
        pytest.skip("cannot mount a small file system here")
    try:
        code, _, err = fastmlp("train", "--out", disk / "run")
        assert code == 1 and err == f"fastmlp: error: {disk}/run/model.safetensors: No space left on device.\n"
        assert (disk / "run" / "metrics.jsonl").read_text() == ""
        fm.load_model(disk / "run" / "model.safetensors")  # there was room for one, not for two
    finally:
        subprocess.run(["umount", disk], check=True)


NO_MATPLOTLIB = """
import sys
sys.modules["matplotlib"] = None
from fastmlp.cli import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.slow
def test_without_matplotlib_a_run_ends_well(start, folder):
    with start("train", "--epochs", 1, "--out", "run", python=("-c", NO_MATPLOTLIB)) as process:
        out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    assert out.splitlines()[-1] == 'no curves.png: pip install "fastmlp[plot]"'
    assert sorted(os.listdir(folder / "run")) == [
        "config.json",
        "metrics.jsonl",
        "model.safetensors",
        "training.safetensors",
    ]


@pytest.mark.parametrize(
    "command, seen, expected",
    [
        (
            "--help",
            "[m for m in ('numba', 'matplotlib', 'tqdm', 'pandas', 'torch', 'sklearn') if m in sys.modules]",
            "[]",
        ),
        (
            "compare",
            "sorted(m[8:] for m in sys.modules if m.startswith(('fastmlp.cli.', 'fastmlp.training.trainer')))",
            "['cli.compare', 'cli.curves', 'cli.help', 'cli.options', 'cli.runs']",
        ),
    ],
)
def test_help_imports_little(start, command, seen, expected):
    code = f"import sys; from fastmlp.cli import main; main([{command!r}, '--help']); print({seen})"
    with start(python=("-c", code)) as process:
        out, err = process.communicate(timeout=60)
    assert err == "" and out.splitlines()[-1] == expected
