"""Sweeps in Python: on Dask workers and in threads, as single fits; workers that die, errors, successive halving."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from checks import assert_matches

import fastmlp as fm
from fastmlp.distributed import sweep
from fastmlp.distributed.sweep_runs import check_files
from fastmlp.distributed.sweeps import rungs

GRID = {"lr": [1e-3, 1e-2, 3e-2], "width": [8, 16]}
FIT = {"epochs": 6, "batch_size": 50, "rng": 0}


@pytest.fixture(scope="module")
def rows():
    X, y, X_test, y_test = fm.load("digits")
    return (X[:400], y[:400]), (X_test[:100], y_test[:100])


def maker(callbacks=lambda lr, width: []):
    """A function of a function, as Dask sends those of a module by its name, which workers cannot import."""

    def make(lr, width):
        import fastmlp as fm

        model = fm.MLP(64, [width], 10, normalize=fm.Normalize(np.zeros(64), np.full(64, 16.0)), dropout=0.1, rng=0)
        trainer = fm.Trainer(model, fm.CrossEntropyLoss(), fm.Adam(lr))
        return trainer, {"callbacks": [fm.EarlyStopping(3), *callbacks(lr, width)]}

    return make


def weights(model):
    return model.state_dict()


def fitted(rows, lr, width):
    trainer, options = maker()(lr, width)
    trainer.fit(*rows[0], validation=rows[1], **FIT, **options)
    return trainer


def assert_same_model(ref, comp):
    for name, array in weights(ref).items():
        assert array.tobytes() == weights(comp)[name].tobytes(), name


@pytest.mark.parametrize("where", ["threads", "dask"])
def test_a_sweep_equals_single_fits(where, rows, request):
    client = request.getfixturevalue("client") if where == "dask" else None
    seen = []
    runs = sweep(
        maker(), GRID, *rows[0], validation=rows[1], client=client, on_evaluation=lambda *each: seen.append(each), **FIT
    )
    assert [run.params for run in runs] == [{"lr": lr, "width": width} for lr in GRID["lr"] for width in GRID["width"]]
    for run in runs:
        ref = fitted(rows, **run.params)
        assert run.error is None and not run.stopped
        assert_same_model(ref.model, run.model)
        assert_matches(np.array(ref.history["val_loss"]), np.array(run.history["val_loss"]))
        records = [record for params, record in seen if params == run.params]
        assert [record["step"] for record in records] == ref.history["step"]


@pytest.mark.parametrize("where", ["threads", "dask"])
def test_successive_halving_stops_the_weak_and_goes_on_with_the_strong(where, rows, request):
    client = request.getfixturevalue("client") if where == "dask" else None
    runs = sweep(maker(), GRID, *rows[0], validation=rows[1], client=client, halving=2, **FIT)
    assert sorted(len(run.history) for run in runs if run.stopped) == [2, 2, 2, 3]  # 6 / 4 and 6 / 2 epochs, rounded up
    (first, second) = (run for run in runs if not run.stopped)
    for run in (first, second):
        assert_same_model(fitted(rows, **run.params).model, run.model)
    losses = {tuple(run.params.values()): fitted(rows, **run.params).history["val_loss"] for run in runs}
    ranked = sorted(losses, key=lambda params: min(losses[params][:2]))[:3]
    ranked = sorted(ranked, key=lambda params: min(losses[params][:3]))[:2]
    assert {tuple(run.params.values()) for run in (first, second)} == set(ranked)


def test_the_name_is_the_function_whatever_was_imported_before():
    code = "import fastmlp.cli.sweep, fastmlp as fm; from fastmlp.distributed import sweep; print(callable(sweep))"
    code += "; print(fm.distributed.sweep is sweep, 'sweep' in dir(fm.distributed), 'distributed' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", f"import sys; {code}"], capture_output=True, text=True, check=True)
    assert out.stdout.split() == ["True", "True", "True", "False"]  # and Dask is not imported
    with pytest.raises(AttributeError, match="module 'fastmlp.distributed' has no attribute 'swep'"):
        fm.distributed.swep  # noqa: B018


def test_rungs():
    assert rungs(1, 2) == [(1, 1)] and rungs(1, None) == [(1, 1)]
    assert rungs(2, 3) == [(1, 2)]
    assert rungs(27, 3) == [(27, 27), (9, 9), (3, 3), (1, 1)]
    assert rungs(10, 3) == [(9, 10), (3, 4), (1, 2)]


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_a_run_whose_worker_dies_goes_on_elsewhere_to_the_same_bytes(client, rows, tmp_path):
    log, killed = tmp_path / "log", tmp_path / "killed"

    def callbacks(lr, width):
        def die_once(trainer, record):
            with log.open("a") as stream:
                stream.write(f"{record['step']} {os.getpid()}\n")
            if record["step"] == 32 and not killed.exists():
                killed.touch()
                os.kill(os.getpid(), signal.SIGKILL)

        return [die_once]

    grid = {"lr": [1e-2], "width": [16]}
    (run,) = sweep(maker(callbacks), grid, *rows[0], validation=rows[1], client=client, **FIT)
    steps, workers = zip(*(map(int, line.split()) for line in log.read_text().splitlines()), strict=True)
    assert steps == (8, 16, 24, 32, 32, 40, 48)  # it did not begin anew
    assert len(set(workers[:4])) == len(set(workers[4:])) == 1 and workers[0] != workers[-1]
    assert run.error is None
    assert_same_model(fitted(rows, 1e-2, 16).model, run.model)


@pytest.mark.parametrize("where", ["threads", "dask"])
def test_a_failed_run_leaves_the_others(where, rows, request):
    client = request.getfixturevalue("client") if where == "dask" else None

    def callbacks(lr, width):
        if width == 8:
            raise ValueError("this width\nis not made")
        return []

    ended = []
    options = {"client": client, "halving": 3, "jobs": 1, "on_end": ended.append, **FIT}
    runs = sweep(maker(callbacks), GRID, *rows[0], validation=rows[1], **options)
    assert len(ended) == 6 and all(any(one is run for one in ended) for run in runs)
    failed = [run for run in runs if run.error is not None]
    assert {run.params["width"] for run in failed} == {8} and len(failed) == 3
    assert all(run.error == "this width is not made" and run.model is None for run in failed)
    assert all(run.best_loss == np.inf and len(run.history) == 0 for run in failed)
    assert sum(not run.stopped for run in runs if run.error is None) == 2


def test_an_error_of_a_machine_is_repeated_from_the_state(client, rows, tmp_path):
    def callbacks(lr, width):
        def fail_once(trainer, record):
            with (tmp_path / "log").open("a") as stream:
                stream.write(f"{record['step']}\n")
            if record["step"] == 24 and not (tmp_path / "failed").exists():
                (tmp_path / "failed").touch()
                raise OSError(28, "No space left on device")

        return [fail_once]

    grid, log = {"lr": [1e-2], "width": [8]}, tmp_path / "log"
    (run,) = sweep(maker(callbacks), grid, *rows[0], validation=rows[1], client=client, retries=1, **FIT)
    assert run.error is None and log.read_text().split() == ["8", "16", "24", "24", "32", "40", "48"]
    (tmp_path / "failed").unlink()
    (run,) = sweep(maker(callbacks), grid, *rows[0], validation=rows[1], client=client, retries=0, **FIT)
    assert run.error == "OSError: [Errno 28] No space left on device" and len(run.history) == 2


def test_the_data_of_the_last_worker_are_sent_again(rows, tmp_path):
    distributed = pytest.importorskip("distributed")

    def callbacks(lr, width):
        def die(trainer, record):
            if record["step"] == 16 and (width == 16 or not (tmp_path / "killed").exists()):
                (tmp_path / "killed").touch()
                os.kill(os.getpid(), signal.SIGKILL)

        return [die]

    options = {"n_workers": 1, "threads_per_worker": 1, "dashboard_address": ":0"}
    with distributed.LocalCluster(**options) as cluster, distributed.Client(cluster, set_as_default=False) as alone:
        fit = {"client": alone, "validation": rows[1], **FIT}
        (run,) = sweep(maker(callbacks), {"lr": [1e-2], "width": [8]}, *rows[0], **fit)
        assert run.error is None
        assert_same_model(fitted(rows, 1e-2, 8).model, run.model)
        (run,) = sweep(maker(callbacks), {"lr": [1e-2], "width": [16]}, *rows[0], retries=1, **fit)
        assert "its data were lost with the workers 2 times" in run.error or "the workers that trained it" in run.error
        assert len(run.history) == 1 and run.model is None


@pytest.mark.parametrize("where", ["threads", "dask"])
def test_an_interrupted_sweep_stops_its_runs(where, rows, request, tmp_path):
    client = request.getfixturevalue("client") if where == "dask" else None

    def callbacks(lr, width):
        def note(trainer, record):
            with (tmp_path / "log").open("a") as stream:
                stream.write("x")
            time.sleep(0.01)

        return [note]

    def stop(params, record):
        raise KeyboardInterrupt

    grid = {"lr": [1e-2], "width": [8, 16, 24]}
    fit = {**FIT, "epochs": 3000}
    with pytest.raises(KeyboardInterrupt):
        sweep(maker(callbacks), grid, *rows[0], validation=rows[1], client=client, on_evaluation=stop, **fit)
    end, sizes = time.monotonic() + 20, [0]
    while time.monotonic() < end and sizes[-5:] != [(tmp_path / "log").stat().st_size] * 5:
        sizes.append((tmp_path / "log").stat().st_size)
        time.sleep(0.1)
    assert sizes[-1] < 3000 and sizes[-5:] == [sizes[-1]] * 5
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("fastmlp-sweep")]
    if client is not None:  # the workers are free
        assert client.submit(len, "abc", pure=False).result(timeout=10) == 3


def test_files_are_read_by_their_path(client, rows, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # the workers are in another folder
    for name, array in zip(("X", "y"), rows[0], strict=True):
        np.save(tmp_path / f"{name}.npy", array)
    grid, options = {"lr": [1e-2], "width": [8]}, {"client": client, "validation": rows[1], **FIT}
    (run,) = sweep(maker(), grid, "X.npy", Path("y.npy"), **options)
    assert run.error is None
    assert_same_model(fitted(rows, 1e-2, 8).model, run.model)


def test_some_combinations_at_random(rows):
    fit = {**FIT, "epochs": 1}
    runs = [sweep(maker(), GRID, *rows[0], random=3, seed=seed, **fit) for seed in (0, 0, 1)]
    first, again, other = ([run.params for run in each] for each in runs)
    assert len(first) == 3 and first == again != other
    assert runs[0][0].best_loss == min(runs[0][0].history["train_loss"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"grid": {}}, "grid has no values"),
        ({"grid": {"lr": [], "width": [8]}}, "grid has no values"),
        ({"halving": 1}, "halving is 1; expected an integer of at least 2"),
        ({"jobs": 0}, "jobs is 0"),
        ({"random": 0}, "random is 0"),
        ({"retries": -1}, "retries is -1"),
        ({"resume": "x"}, "sweep got resume"),
        ({"callbacks": []}, "sweep got callbacks, which make returns with the trainer"),
    ],
)
def test_wrong_arguments(change, message, rows):
    with pytest.raises(ValueError, match=message):
        sweep(maker(), **{"grid": GRID, "X": rows[0][0], "y": rows[0][1], **change})


@pytest.mark.parametrize("files", [None, {"../x": b""}, {"a/b.c": b""}, {"model.safetensors": "text"}, {1: b""}])
def test_files_of_a_worker_are_checked(files):
    with pytest.raises(ValueError, match="expected the files of a run"):
        check_files(files)
    assert check_files({"model.safetensors": b"x"}) == {"model.safetensors": b"x"}
