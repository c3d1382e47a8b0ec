"""`fastmlp sweep --dask` and `--halving`."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import fastmlp as fm
from fastmlp.cli import main
from fastmlp.io.training_state import read_training_state

GRID = ["--grid", "lr=0.01,0.02", "--grid", "hidden=8,16"]
TRAIN = ["--epochs", "3", "--early-stopping", "2"]
NAMES = [f"lr={lr},hidden={hidden}" for lr in ("0.01", "0.02") for hidden in (8, 16)]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def sweep(capsys):
    """(exit code, standard output, standard error) of fastmlp sweep in this process."""

    def run(*arguments):
        code = main(["sweep", *map(str, arguments)])
        return code, *capsys.readouterr()

    return run


@pytest.fixture(scope="module")
def ref(tmp_path_factory):
    """Folder of the same runs of fastmlp train."""
    folder = tmp_path_factory.mktemp("ref")
    for name in NAMES:
        lr, hidden = re.findall("=([^,]*)", name)
        options = ["--lr", lr, "--hidden", hidden, "--out", str(folder / name), "--quiet", *TRAIN]
        assert main(["train", *options]) == 0
    return folder


def metrics(run):
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in record.items() if key != "seconds"} for record in records]


def assert_same_runs(ref, comp, names=NAMES):
    for name in names:
        assert (ref / name / "model.safetensors").read_bytes() == (comp / name / "model.safetensors").read_bytes()
        assert (ref / name / "config.json").read_bytes() == (comp / name / "config.json").read_bytes()
        assert metrics(ref / name) == metrics(comp / name)


@pytest.mark.parametrize("data", [(), ("--dask-data", "path")])
def test_runs_on_workers_equal_those_of_train(data, sweep, client, ref, folder):
    address = client.scheduler.address
    code, out, err = sweep(*GRID, "--dask", address, "--out", "s", *data, "--", *TRAIN)
    assert (code, err) == (0, "") and out.startswith("4 runs on 2 Dask workers with 2 threads, in s\n")
    assert out.count("done   s/") == 4 and "best loss" in out
    assert_same_runs(ref, folder / "s")
    files = {path.name for path in (folder / "s" / NAMES[0]).iterdir()}
    assert files == {"config.json", "metrics.jsonl", "model.safetensors", "training.safetensors"}
    code, out, _ = sweep(*GRID, "--dask", address.removeprefix("tcp://"), "--out", "s", *data, "--", *TRAIN)
    assert code == 0 and "resumed" in out and out.count("done ") == 4
    assert_same_runs(ref, folder / "s")


def test_a_table_and_options_in_a_file_are_sent(sweep, client, folder):
    generator = np.random.default_rng(0)
    X = generator.normal(size=(200, 3)).astype(np.float32)
    np.savez(folder / "t.npz", X=X, y=(X[:, 0] > 0).astype(np.int64))
    (folder / "options.toml").write_text('dataset = "t.npz"\nepochs = 9\nhidden = [5]\n')
    code, _, err = sweep("--grid", "seed=1,2", "--dask", client.scheduler.address, "--", "--config", "options.toml")
    assert (code, err) == (0, "")
    config = json.loads((folder / "sweep" / "seed=2" / "config.json").read_text())
    assert config["data"]["dataset"] == str(folder / "t.npz") and config["options"]["epochs"] == 9
    assert main(["train", "--resume", "sweep/seed=2", "--quiet"]) == 0
    assert main(["train", "--config", "options.toml", "--seed", "2", "--out", "seed=2", "--quiet"]) == 0
    assert_same_runs(folder, folder / "sweep", ["seed=2"])


@pytest.mark.parametrize("where", ["threads", "dask"])
def test_halving(where, sweep, request, ref, folder):
    dask = ["--dask", request.getfixturevalue("client").scheduler.address] if where == "dask" else []
    code, out, err = sweep(*GRID, "--halving", 2, "--out", "s", *dask, "--", *TRAIN)
    assert (code, err) == (0, "")
    assert out.count("halved s/") == 3 and out.count("done   s/") == 1
    assert out.startswith("4 runs by halving" if where == "threads" else "4 runs on 2 Dask workers")
    (strong,) = re.findall(r"done   s/(\S*)", out)
    assert_same_runs(ref, folder / "s", [strong])
    steps = {name: metrics(folder / "s" / name)[-1]["step"] for name in NAMES}
    assert sorted(steps.values()) == [45, 45, 90, 135] or sorted(steps.values()) == [45, 45, 45, 135]
    before = {name: metrics(folder / "s" / name) for name in NAMES}
    code, again, _ = sweep(*GRID, "--halving", 2, "--out", "s", *dask, "--", *TRAIN)
    assert code == 0 and re.findall(r"done   s/(\S*)", again) == [strong]
    assert before == {name: metrics(folder / "s" / name) for name in NAMES}


def test_failures_do_not_end_a_sweep(sweep, client, folder):
    grid = ["--grid", "lr=0.01,1e30", "--dask", client.scheduler.address]
    code, out, _ = sweep(*grid, "--", *TRAIN, "--optimizer", "sgd", "--hidden", 8)
    assert code == 1 and "done   sweep/lr=0.01\n" in out
    assert re.search(r"failed sweep/lr=1e30: .* not finite|failed sweep/lr=1e30: .*loss", out)
    assert (folder / "sweep" / "lr=1e30" / "model.safetensors").is_file()
    assert not (folder / "sweep" / "lr=1e30" / "curves.png").exists()


def test_wrong_usage(sweep, folder):
    table = folder / "table.csv"
    table.write_text("a,b,label\n" + "1,x,0\n2,y,1\n" * 10)
    for arguments, message in (
        (["--tls", "a", "b", "c"], "--tls applies to --dask or --dask-file; give one of them"),
        (["--dask-data", "path"], "--dask-data applies to --dask or --dask-file"),
        (["--retries", 1], "--retries applies to --dask or --dask-file"),
        (["--dask", "x", "--dask-file", "y"], "not allowed with argument"),
        (["--halving", 1], "'1' is not an integer of at least 2"),
        (
            ["--halving", 2, "--", "--tensorboard"],
            "fastmlp train --tensorboard is for runs in processes of this machine",
        ),
        (["--halving", 2, "--", "--dataset", table], "is trained as an ensemble; --dask and --halving need"),
    ):
        code, _, err = sweep(*GRID, *arguments)
        assert code == 2 and message in err, arguments


def test_clusters_that_are_not_there(sweep, folder, monkeypatch):
    pytest.importorskip("distributed")
    (folder / "empty.json").write_text("{}")
    (folder / "gone.json").write_text('{"address": "nothing://there"}')
    for arguments, message in (
        (["--dask-file", "no.json"], "no.json: No such file or directory."),
        (["--dask-file", "empty.json"], "empty.json is not a scheduler file; expected the JSON file"),
        (["--dask-file", "gone.json"], "No Dask scheduler answers at nothing://there"),
        (["--dask", "tls://127.0.0.1:1", "--tls", "ca", "cert", "key"], "ca: No such file or directory."),
    ):
        code, out, err = sweep(*GRID, *arguments, "--out", f"s{message[:4]}")
        assert code == 1 and message in err and out == "" and err.count("\n") == 1, err


def test_without_dask(sweep, monkeypatch):
    monkeypatch.setattr("fastmlp._common.installed.is_installed", lambda package: package != "distributed")
    code, _, err = sweep(*GRID, "--dask", "127.0.0.1:8786")
    assert code == 1 and err.endswith("distributed, which is not installed: pip install 'fastmlp[dask]'.\n")


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_sweep_leaves_finished_runs_whole(number, client, folder):
    grid = ["--grid", "hidden=8,12,16", "--grid", "epochs=3,2000", "--dask", client.scheduler.address]
    common = ["--out", "s", "--", "--lr", "0.01"]
    # Python's handler, where the tests run in the background of a shell, which ignores Ctrl-C there.
    code = "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    code += "from fastmlp.cli import main; sys.exit(main())"
    environment = {**os.environ, "PYTHONPATH": str(Path(fm.__file__).parents[1])}
    command = [sys.executable, "-c", code, "sweep", *grid, *common]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        lines = iter(child.stdout.readline, "")
        assert any(line == "done   s/hidden=8,epochs=3\n" for line in lines)
        long = folder / "s" / "hidden=8,epochs=2000"
        end = time.monotonic() + 60
        while not (long / "training.safetensors").is_file() and time.monotonic() < end:
            time.sleep(0.02)
        child.send_signal(number)
        out, err = child.communicate(timeout=60)
    assert child.returncode == (130 if number == signal.SIGINT else 143), (out, err)
    assert re.search(r"stopped after \d of 6 runs; repeat the command to resume", out) and err == ""
    assert len(metrics(folder / "s" / "hidden=8,epochs=3")) == 3
    history = read_training_state(long / "training.safetensors")["progress"]["history"]  # it is whole
    assert 0 < len(history) < 2000
    assert client.submit(len, "abc", pure=False).result(timeout=20) == 3  # a worker is free again
