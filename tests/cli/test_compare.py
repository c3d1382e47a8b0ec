"""``fastmlp compare``, ``fastmlp sweep``, and options in a file."""

import io
import json
import os
import signal
import sys
import time

import numpy as np
import pytest

import fastmlp as fm
from fastmlp.callbacks.history import KEYS, History
from fastmlp.cli import sweep_group
from fastmlp.cli.compare import print_ranking
from fastmlp.cli.curves import draw_comparison, short_names
from fastmlp.cli.data import load_data

RUN = ["--hidden", 8, "--epochs", 2, "--threads", 1, "--quiet"]


def npz():
    stream = io.BytesIO()
    X = np.random.default_rng(0).normal(size=(50, 3))
    np.savez(stream, X=X, y=X[:, 0])
    return stream.getvalue()


def test_compare(fastmlp, folder):
    pytest.importorskip("matplotlib")
    for lr in ("0.01", "0.0001"):
        assert fastmlp("train", *RUN, "--lr", lr, "--out", lr)[0] == 0
    (folder / "x.npz").write_bytes(npz())
    assert fastmlp("train", *RUN, "--dataset", "x.npz", "--out", "numbers")[0] == 0
    note = "The runs use different data (digits, x.npz)"
    assert note in fastmlp("compare", "0.01", "numbers")[1] and note not in fastmlp("compare", "0.01", "0.0001")[1]
    code, out, err = fastmlp("compare", "0.0001", "0.01")
    assert code == 0 and err == "" and out.endswith("saved compare.png\n")
    lines = out.splitlines()
    assert lines[0].split()[:3] == ["run", "best", "loss"]
    assert [line.split()[0] for line in lines[1:3]] == ["0.01", "0.0001"]  # the better first
    last = json.loads((folder / "0.01" / "metrics.jsonl").read_text().splitlines()[-1])
    assert f"{last['val_loss']:.5f}" in lines[1]
    assert (folder / "compare.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("depth", [0, 3])
def test_pictures_of_runs_with_long_names(depth, tmp_path):
    pytest.importorskip("matplotlib")
    history = History()
    history.append({**dict.fromkeys(KEYS), "step": 1, "epoch": 1.0, "val_loss": 0.5, "val_accuracy": 0.5})
    parent = tmp_path.joinpath(*["folder" * 20] * depth)
    for names in (["first"], ["first", "second" * 30], ["x/first" * 40, "y" * 200]):
        assert draw_comparison({str(parent / name): history for name in names}, tmp_path / "picture.png") is None
    assert short_names([str(parent / "a" / "x"), str(parent / "b" / "x")]) == [os.path.join(one, "x") for one in "ab"]
    assert short_names(["runs/only"]) == ["only"]
    assert short_names(["a", "b" * 50]) == ["a", "..." + "b" * 37]


def test_nan_is_not_the_best_run(capsys):
    """Wherever it stands: in a run, or among runs."""
    nan = float("nan")
    runs = {"a": [3.0], "b": [nan, 2.0], "c": [nan], "d": [1.0, nan]}
    for names in ("abcd", "cbad", "dcba"):
        histories = {}
        for name in names:
            histories[name] = History()
            for step, loss in enumerate(runs[name]):
                histories[name].append({**dict.fromkeys(KEYS), "step": step, "val_loss": loss, "seconds": 0.0})
        print_ranking(histories)
        lines = [line.split() for line in capsys.readouterr().out.splitlines()[1:]]
        assert [(line[0], line[1]) for line in lines] == [
            ("d", "1.00000"), ("b", "2.00000"), ("a", "3.00000"), ("c", "nan"),
        ]  # fmt: skip


@pytest.mark.parametrize(
    "content, message",
    [
        (None, "has no metrics.jsonl"),
        ("", "has no metrics yet"),
        ("{}\n", "is damaged"),
        ("[", "is damaged"),
    ],
)
def test_compare_what_is_no_run(content, message, fastmlp, folder):
    (folder / "run").mkdir()
    if content is not None:
        (folder / "run" / "metrics.jsonl").write_text(content)
    code, out, err = fastmlp("compare", "run")
    assert code == 1 and out == "" and message in err and err.count("\n") == 1


def test_sweep(fastmlp, folder):
    grid = ["--grid", "lr=0.0001,0.01", "--grid", "hidden=4:8,8"]
    code, out, err = fastmlp("sweep", *grid, "--jobs", 2, "--", "--epochs", 1, "--threads", 1)
    assert code == 0 and err == "", err
    assert out.startswith("4 runs, 2 at a time, in sweep\n") and out.count("done ") == 4
    runs = sorted(set(os.listdir(folder / "sweep")) - {"sweep.json", ".lock"})
    assert runs == ["lr=0.0001,hidden=4", "lr=0.0001,hidden=8,8", "lr=0.01,hidden=4", "lr=0.01,hidden=8,8"]
    best = min(runs, key=lambda run: json.loads((folder / "sweep" / run / "metrics.jsonl").read_text())["val_loss"])
    assert out.splitlines()[-4].startswith(os.path.join("sweep", best))


def test_runs_of_a_sweep_have_the_bits_of_a_single_run(fastmlp, folder, monkeypatch):
    common = ["--epochs", 1, "--hidden", 4]
    grid = ["--grid", "lr=1e30,0.02", "--jobs", 2]
    code, out, err = fastmlp("sweep", *grid, "--out", "together", "--", *common)
    assert (code, err) == (1, "") and out.count("done ") == 1
    assert "failed together/lr=1e30: fastmlp: error: Training diverged" in out
    monkeypatch.setattr("fastmlp.cli.sweep._may_share_process", lambda args: False)
    apart = fastmlp("sweep", *grid, "--out", "apart", "--", *common)
    assert apart[0] == 1 and apart[1].splitlines()[1:3] == out.replace("together", "apart").splitlines()[1:3]
    fastmlp("train", "--lr", 0.02, *common, "--out", "alone", "--quiet")
    ref = (folder / "alone" / "model.safetensors").read_bytes()
    for way in ("together", "apart"):
        assert (folder / way / "lr=0.02" / "model.safetensors").read_bytes() == ref


def test_data_of_a_sweep_are_loaded_once(monkeypatch, folder, capfd):
    loaded = []

    def load(source, dtype):
        loaded.append(dtype)
        return load_data(source, dtype)

    monkeypatch.setattr(sweep_group, "load_data", load)
    options = [["--epochs", "1", "--hidden", "3", *more] for more in ([], ["--lr=0.1"], ["--dtype=float64"])]
    runs = [(str(folder / str(number)), one) for number, one in enumerate(options)]
    assert sweep_group.main(json.dumps({"jobs": 1, "runs": runs}).encode()) == 0
    assert loaded == ["float32", "float64"]
    assert [json.loads(line) for line in capfd.readouterr().out.splitlines()] == [[0, None], [1, None], [2, None]]


@pytest.mark.slow
def test_sweep_at_random_and_with_failures(fastmlp, folder):
    bad = ["sweep", "--grid", "lr=0.1,1e30", "--out", "s", "--", "--epochs", 1, "--hidden", 4]
    code, out, _ = fastmlp(*bad)
    assert code == 1 and "failed s/lr=1e30: fastmlp: error: Training diverged" in out and out.count("done ") == 1
    assert fastmlp(*bad)[0] == 1  # again: the one is there, the other fails again
    code, out, _ = fastmlp("sweep", "--grid", "lr=0.1,0.2,0.3", "--random", 1, "--out", "r", "--", "--epochs", 1)
    assert code == 0 and out.startswith("1 run, 1 at a time")
    for options, message in (
        (["--grid", "lr"], "expected an option and its values"),
        (["--grid", "lr=1,1"], "has the same value of lr twice"),
        (["--grid", "lr=1", "--grid", "lr=2"], "names lr twice"),
        (["--grid", "out=a,b"], "cannot vary out"),
        (["--grid", "lr=1,nought"], "argument --lr/--learning_rate: 'nought' is not a number of"),
        (["--grid", "layer-norm=1,0"], "has '1' for layer-norm; expected true or false"),
        (
            ["--grid", "lr=1,2", "--epochs", "4"],
            "unrecognized arguments: --epochs; options of fastmlp train come after --",
        ),
        (["--grid", "lr=1,2", "--job", "4"], "did you mean --jobs?"),
        (["--grid", "batch-size=8,9", "--grid", "batch_size=7"], "--grid names batch_size twice"),
        (
            ["--grid", "layer-norm=true,false", "--", "--layer-norm"],
            "varies layer-norm, which is also set by the options after --",
        ),
    ):
        code, _, err = fastmlp("sweep", *options)
        assert code == 2 and message in err, err
    assert not (folder / "sweep").exists()
    code, _, err = fastmlp("sweep", "--grid", "lr=1", "--out", "s")
    assert code == 1 and "s holds another sweep; give another --out" in err
    (folder / "r" / "sweep.json").unlink()
    code, _, err = fastmlp("sweep", "--grid", "lr=1", "--out", "r")
    assert code == 1 and "r is not empty; give another --out" in err and not (folder / "r" / "sweep.json").exists()
    code, _, err = fastmlp("sweep", "--grid", "lr=1", "--out", "t", "--", "--dataset", "none.csv")
    assert code == 1 and "No run of the sweep succeeded" in err
    code, out, _ = fastmlp("sweep", "--grid", "lr=0.1", "--out", "t", "--", "--epochs", 1)  # no run was started there
    assert code == 0 and "resumed" not in out


@pytest.mark.slow
def test_a_sweep_that_is_damaged(fastmlp, folder):
    sweep = ["sweep", "--grid", "dropout=0,0.1,0.2", "--out", "s", "--", "--epochs", 1, "--hidden", 4]
    ref = fastmlp(*sweep)[1].splitlines()[-3:]
    (folder / "s" / "sweep.json").write_text('{"a":')
    (folder / "s" / "dropout=0" / "metrics.jsonl").write_text("nonsense")
    code, out, _ = fastmlp(*sweep)  # the run's state knows what was measured
    assert code == 0 and "resumed" in out and out.splitlines()[-3:] == ref
    (folder / "s" / "sweep.json").write_text('{"a":')
    (folder / "s" / "dropout=0").rename(folder / "s" / "else")
    code, _, err = fastmlp(*sweep)
    assert code == 1 and "s holds another sweep" in err


@pytest.mark.slow
def test_names_of_runs(fastmlp, folder):
    X = np.random.default_rng(0).normal(size=(50, 3))
    (folder / "sub").mkdir()
    for name in ("sub/t", "sub_t"):
        np.savez(folder / name, X=X, y=X[:, 0])
    long = "1:" + ",".join(["2"] * 120)
    grid = ["--grid", "dataset=sub/t.npz,sub_t.npz", "--grid", f"hidden={long}"]
    code, out, _ = fastmlp("sweep", *grid, "--out", "s", "--jobs", 2, "--", "--epochs", 1)
    assert code == 0 and out.count("done ") == 4
    data = {json.loads(path.read_text())["data"]["dataset"] for path in (folder / "s").glob("*/config.json")}
    assert len(list((folder / "s").glob("*/config.json"))) == 4 and len(data) == 2


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="locks of POSIX")
def test_runs_end_with_a_sweep_that_is_killed(start, fastmlp, folder):
    sweep = ["sweep", "--grid", "lr=0.01", "--out", "s", "--", "--hidden", 40, "--epochs", 300, "--threads", 1]
    child, state = start(*sweep), folder / "s" / "lr=0.01" / "training.safetensors"
    end = time.monotonic() + 100
    while not state.exists() and time.monotonic() < end:
        time.sleep(0.05)
    code, _, err = fastmlp_soon(fastmlp, *sweep)
    assert code == 1 and "s is in use by another sweep; give another --out" in err
    child.kill()
    child.communicate()
    code, out, _ = fastmlp(*sweep)
    assert code == 0 and "resumed" in out
    steps = [json.loads(line)["step"] for line in (state.parent / "metrics.jsonl").read_text().splitlines()]
    assert steps == sorted(set(steps)) and len(steps) == 300


def fastmlp_soon(fastmlp, *arguments):
    """Without the patience for another sweep's runs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fastmlp.cli.sweep._PATIENCE", 0)
        return fastmlp(*arguments)


IGNORING = """
import signal, sys
signal.signal(signal.SIGINT, signal.SIG_IGN)
from fastmlp.cli import main
sys.exit(main())
"""


@pytest.mark.slow
@pytest.mark.usefixtures("interruptible")
@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
@pytest.mark.parametrize(
    ("number", "python"),
    [(signal.SIGINT, ()), (signal.SIGTERM, ()), pytest.param(signal.SIGTERM, ("-c", IGNORING), id="in the background")],
)
def test_a_sweep_that_is_stopped_takes_its_runs_along_and_goes_on(number, python, start, fastmlp, folder):
    sweep = ["sweep", "--grid", "layer-norm=false,true", "--jobs", 1, "--", "--hidden", 40, "--epochs", 300]
    child = start(*sweep, "--threads", 1, python=python)
    first = folder / "sweep" / "layer-norm=false" / "training.safetensors"
    end = time.monotonic() + 100
    while not first.exists() and time.monotonic() < end:
        time.sleep(0.05)
    child.send_signal(number)
    out, err = child.communicate(timeout=60)
    assert child.returncode == (130 if number == signal.SIGINT else 143), (out, err)
    assert "stopped after 0 of 2 runs; repeat the command to resume" in out
    before = first.read_bytes()
    assert len((first.parent / "metrics.jsonl").read_text().splitlines()) < 300, "the run was let to its end"
    time.sleep(0.3)
    assert first.read_bytes() == before  # no process is left that writes to it
    code, out, _ = fastmlp(*sweep, "--threads", 1)
    assert code == 0 and "resumed" in out.splitlines()[0] and out.count("done ") == 2
    steps = [json.loads(line)["step"] for line in (first.parent / "metrics.jsonl").read_text().splitlines()]
    assert steps == sorted(set(steps)) and len(steps) == 300


@pytest.mark.slow
def test_options_in_a_file(fastmlp, folder):
    (folder / "bad.toml").write_text("epoch = 3\n")
    code, _, err = fastmlp("train", "--config", "bad.toml")
    assert code == 2 and "error: bad.toml: unrecognized arguments: --epoch=3; did you mean --epochs?" in err
    (folder / "bad.toml").write_text('lr = "much"\n')
    code, _, err = fastmlp("train", "--config", "bad.toml")
    assert code == 2 and "error: bad.toml: argument --lr" in err
    (folder / "bad.toml").write_text("steps = 5\n")
    assert fastmlp("train", "--config", "bad.toml", "--epochs", 1, "--quiet", "--out", "one")[0] == 0
    assert len((folder / "one" / "metrics.jsonl").read_text().splitlines()) == 1
    (folder / "run.toml").write_text('hidden = [9, 5]\nlr = 0.02\nseed = 7\nlayer-norm = true\noptimizer = "sgd"\n')
    code, _, err = fastmlp("train", "--config", "run.toml", "--seed", 42, "--epochs", 1, "--quiet", "--out", "run")
    assert code == 0 and err == ""
    options = json.loads((folder / "run" / "config.json").read_text())["options"]
    assert (options["hidden"], options["lr"], options["seed"], options["layer_norm"]) == ([9, 5], 0.02, 42, True)
    for text, code, message in (
        ("lr = ", 2, "run.toml is not valid TOML"),
        ("speed = 1", 2, "unrecognized arguments: --speed=1"),
        ("lr = -1", 2, "argument --lr"),
        ("[train]\nlr = 1", 2, "run.toml has 'train'"),
        ("hidden = " + "[" * 5000, 2, "run.toml is not valid TOML"),
    ):
        (folder / "run.toml").write_text(text)
        got, out, err = fastmlp("train", "--config", "run.toml", "--quiet")
        assert got == code and message in err and out == "" and err.count("\n") == 1
    assert fastmlp("train", "--config", "none.toml")[0] == 1


@pytest.mark.slow
@pytest.mark.parametrize("schedule", ["cosine", "warmup-cosine", "step", "one-cycle", "plateau"])
def test_schedules(schedule, fastmlp, folder):
    code, _, err = fastmlp("train", *RUN, "--schedule", schedule, "--dropout", "0.1", "--out", "run")
    assert code == 0, err
    optimizer = json.loads((folder / "run" / "config.json").read_text())["optimizer"]
    assert isinstance(optimizer["lr"], dict)
    rates = [json.loads(line)["lr"] for line in (folder / "run" / "metrics.jsonl").read_text().splitlines()]
    assert len(rates) == 2 and (schedule == "plateau" or rates[0] != rates[1])


@pytest.mark.slow
def test_logs(fastmlp, folder):
    pytest.importorskip("tensorboardX")
    assert fastmlp("train", *RUN, "--tensorboard", "--out", "run")[0] == 0
    events = list((folder / "run" / "tensorboard").iterdir())
    assert len(events) == 1 and b"val_loss" in events[0].read_bytes()
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(40, 3)), rng.integers(0, 2, 40)
    trainer = fm.Trainer(fm.MLP(3, [4], 2, rng=0), fm.CrossEntropyLoss(), fm.SGD())
    trainer.fit(X, y, epochs=2, rng=0, callbacks=[fm.CSVFile(folder / "log.csv")])
    lines = (folder / "log.csv").read_text().splitlines()
    assert lines[0] == "step,epoch,train_loss,val_loss,val_accuracy,lr,seconds" and len(lines) == 3
    step, _, loss, val_loss = lines[2].split(",")[:4]
    assert int(step) == trainer.steps and float(loss) == trainer.history[-1]["train_loss"] and val_loss == ""
