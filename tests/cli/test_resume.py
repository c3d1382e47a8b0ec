"""``fastmlp train --resume``: continuation of killed runs, and errors."""

import json
import os
import random
import signal
import subprocess
import time

import numpy as np
import pytest

posix = pytest.mark.skipif(os.name != "posix", reason="needs POSIX")

OPTIONS = ["--hidden", "64,32", "--epochs", 1500, "--eval-every", 250, "--dropout", "0.1", "--schedule", "cosine",
           "--early-stopping", 100000, "--save-minutes", "0.0002", "--quiet"]  # fmt: skip

# Forks a process for each command, which has the kernels already: its run is under way at once.
FORKS = """
import os
import sys
from fastmlp.cli import main

if main(sys.argv[1:]):
    sys.exit("the first run failed")
for line in sys.stdin:
    process = os.fork()
    if process == 0:
        code = 70
        try:
            code = main(line.split())
        finally:
            os._exit(code)
    print(process, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), flush=True)
"""


def weights(run):
    return (run / "model.safetensors").read_bytes()


@posix
@pytest.mark.slow
def test_a_run_killed_twenty_times_ends_with_the_same_bytes(start, folder):
    """At any moment of its training, its writing of states above all; and, one time of four, while it begins."""
    first = [*OPTIONS, "--epochs", 1, "--threads", 1, "--out", "first"]
    chance, state, seen = random.Random(0), folder / "parts" / "training.safetensors", []
    # OpenBLAS's threads would not be there in a fork.
    options = {"python": ("-c", FORKS), "env": {"OPENBLAS_NUM_THREADS": "1"}, "stdin": subprocess.PIPE}
    with start("train", *first, **options) as process:

        def begin(*arguments):
            process.stdin.write(" ".join(map(str, arguments)) + "\n")
            process.stdin.flush()
            return int(process.stdout.readline())

        def ended():
            return int(process.stdout.readline())

        begin("train", *OPTIONS, "--threads", 1, "--out", "whole")
        assert ended() == 0
        for kill in range(20):
            before = state.stat().st_mtime_ns if kill else None
            more = (
                ["--resume", "parts", "--save-minutes", "0.0002", "--quiet"] if kill else [*OPTIONS, "--out", "parts"]
            )
            run = begin("train", *more, "--threads", 1 + kill % 2)
            if kill % 4 == 3:
                time.sleep(chance.uniform(0, 0.03))
            else:
                until = time.monotonic() + 60
                while not state.exists() or state.stat().st_mtime_ns == before:
                    assert time.monotonic() < until, "the run saves nothing"
                    time.sleep(0.001)
                time.sleep(chance.uniform(0, 0.15))
            os.kill(run, signal.SIGKILL)
            assert ended() == -signal.SIGKILL, "the run was over too soon to be killed often"
            seen.append(state.read_bytes())
        assert len(set(seen)) >= 15, "it got further each time that it was let"
        begin("train", "--resume", "parts", "--threads", 2, "--quiet")
        assert ended() == 0
        assert process.communicate() == ("", "") and process.returncode == 0
    assert weights(folder / "parts") == weights(folder / "whole")
    records = [
        [{**json.loads(line), "seconds": 0} for line in (folder / run / "metrics.jsonl").read_text().splitlines()]
        for run in ("whole", "parts")
    ]
    assert records[0] == records[1]


@pytest.mark.slow
@pytest.mark.usefixtures("interruptible")
@posix
def test_ctrl_c_and_on(start, fastmlp, folder):
    options = ["--hidden", 8, "--epochs", 400, "--eval-every", 50, "--threads", 1]
    with start("train", *options, "--out", "run") as process:
        for line in process.stdout:
            if line.split()[:1] == ["50"]:
                process.send_signal(signal.SIGINT)
                break
        out, err = process.communicate()
    assert process.returncode == 130 and out.endswith("to resume: fastmlp train --resume run\n")
    code, out, err = fastmlp("train", "--resume", "run", "--no-progress")
    assert code == 0 and "done: test loss" in out
    assert fastmlp("train", *options, "--out", "other", "--quiet")[0] == 0
    assert weights(folder / "run") == weights(folder / "other")
    before = weights(folder / "run")
    assert fastmlp("train", "--resume", "run", "--quiet") == (0, "", "")  # it has ended: nothing changes
    out = fastmlp("train", "--resume", "run")[1]
    assert "this run was already complete after 18,000 steps: test loss" in out and "train loss" not in out
    assert weights(folder / "run") == before


def test_what_cannot_be_resumed(fastmlp, folder):
    assert fastmlp("train", "--epochs", 1, "--out", "run", "--quiet")[0] == 0
    kept = weights(folder / "run")

    def refused(message, code=1, *options):
        got, out, err = fastmlp("train", "--resume", "run", "--quiet", *options)
        assert got == code and out == "" and message in err and err.count("\n") == 1, err
        assert weights(folder / "run") == kept

    refused("--lr cannot be combined with --resume", 2, "--lr", "0.5")
    refused("--epochs cannot be combined with --resume", 2, "--epochs", "2")
    config = json.loads((folder / "run" / "config.json").read_text())
    for key, value, message in (
        ("lr", 0.5, "its optimizer is"), ("batch_size", 16, "its steps is"),
        ("seed", 3, "its seed is 42, here it is 3"),
        ("optimizer", "none", "config.json is damaged"), ("schedule", None, "config.json is damaged"),
        ("shuffle", None, "config.json is damaged"), ("shuffle", "windows", "its shuffle is"),
        ("more", 1, "was written by another version of fastmlp: its options differ by more"),
    ):  # fmt: skip
        changed = {**config, "options": {**config["options"], key: value}}
        (folder / "run" / "config.json").write_text(json.dumps(changed))
        refused(message)
    (folder / "run" / "config.json").write_text(json.dumps(config))
    state = folder / "run" / "training.safetensors"
    whole = state.read_bytes()
    state.write_bytes(whole[:-5])
    refused("training.safetensors is damaged")
    state.unlink()
    refused("run has no training.safetensors; expected a run folder of fastmlp train")
    code, _, err = fastmlp("train", "--resume", "nowhere")
    assert code == 1 and "nowhere is not a folder" in err


def test_the_order_of_the_rows_is_kept(fastmlp, folder):
    assert fastmlp("train", "--epochs", 1, "--out", "run", "--quiet", "--shuffle", "windows")[0] == 0
    code, out, err = fastmlp("train", "--resume", "run")
    assert (code, err) == (0, "") and "order      windows of 64 blocks of 8,192 rows" in out
    assert "this run was already complete" in out


def test_a_run_of_before_the_option_shuffle(fastmlp, folder):
    assert fastmlp("train", "--epochs", 1, "--out", "run", "--quiet")[0] == 0
    config = json.loads((folder / "run" / "config.json").read_text())
    assert config["options"].pop("shuffle") == "full"
    (folder / "run" / "config.json").write_text(json.dumps(config))
    code, out, err = fastmlp("train", "--resume", "run")
    assert (code, err) == (0, "") and "this run was already complete" in out and "order  " not in out


def test_other_data_are_refused(fastmlp, folder):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 3))
    np.savez(folder / "t.npz", X=X, y=(X[:, 0] > 0).astype(int))
    assert fastmlp("train", "--dataset", "t.npz", "--epochs", 2, "--out", "run", "--quiet")[0] == 0
    X[5, 1] += 1e-3
    np.savez(folder / "t.npz", X=X, y=(X[:, 0] > 0).astype(int))
    code, _, err = fastmlp("train", "--resume", "run")
    assert code == 1 and "cannot be resumed" in err


@pytest.mark.slow
@posix
def test_a_disk_that_fills_up(start, folder):
    """A tmpfs too small for a second file beside the state: the one before stays, and can be resumed."""
    disk = folder / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1500k", "tmpfs", disk], capture_output=True)
    if mounted.returncode:
        pytest.skip("no right to mount a tmpfs")
    try:
        options = ["--hidden", 32, "--epochs", 600, "--eval-every", 100, "--threads", 1]
        process = start("train", *options, "--out", disk / "run", "--quiet")
        metrics = disk / "run" / "metrics.jsonl"
        while process.poll() is None and not (metrics.exists() and metrics.stat().st_size):
            time.sleep(0.01)
        free = os.statvfs(disk)
        (disk / "filler").write_bytes(bytes(max(0, free.f_bavail * free.f_frsize - 8192)))
        _, err = process.communicate(timeout=60)
        assert process.returncode == 1 and "No space left on device" in err and err.count("\n") == 1
        assert not [name for name in os.listdir(disk / "run") if name.endswith(".tmp")]
        (disk / "filler").unlink()
        process = start("train", "--resume", disk / "run", "--quiet")
        _, err = process.communicate(timeout=60)
        assert process.returncode == 0 and err == ""
    finally:
        subprocess.run(["umount", disk], check=True)
