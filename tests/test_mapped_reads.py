"""Mapped files that change while they are read: an error that says what was found, and no result is lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import numpy as np
import pytest

import fastmlp as fm
from fastmlp._common.errors import MappedFileError
from fastmlp._kernels.compiled.library import extension_module
from fastmlp.io.mapped_reads import GuardedReads
from fastmlp.training.batches import RowSubset

if extension_module() is None or not hasattr(signal, "SIGBUS"):
    pytest.skip("reads of mapped files are not guarded", allow_module_level=True)

ROWS, COLUMNS = 4000, 64


@pytest.fixture
def rows(tmp_path, rng):
    """(Mapped features, their file, its content, labels)."""
    path = tmp_path / "rows.npy"
    np.save(path, rng.normal(size=(ROWS, COLUMNS)).astype(np.float32))
    return np.load(path, mmap_mode="r"), path, path.read_bytes(), np.arange(ROWS) % 3


def test_a_file_that_is_whole(rows):
    X, _, _, _ = rows
    with GuardedReads([X, X[::2], X[:0], X.T, None, [1.0]]) as reads:
        assert X.sum() == np.array(X).sum()
        reads.check()


def test_a_file_that_became_shorter(rows):
    X, path, content, _ = rows
    ref = np.array(X)
    expected = (
        r"rows.npy could not be read in \d+ places, first [\d,]+ bytes behind the first row: it has 100,000 bytes, "
    )
    expected += f"{X.nbytes:,} bytes of rows were mapped"
    with pytest.raises(MappedFileError, match=expected):
        with GuardedReads([X]):
            os.truncate(path, 100_000)
            comp = np.array(X)
    whole = 90_000 // X.strides[0]
    assert np.array_equal(ref[:whole], comp[:whole]) and not comp[1000:].any()
    path.write_bytes(content)
    assert np.array_equal(ref, np.load(path, mmap_mode="r"))


def test_other_errors_within_the_context(rows):
    X, path, content, _ = rows
    with pytest.raises(ValueError, match="mine"):
        with GuardedReads([X]):
            raise ValueError("mine")
    with pytest.raises(KeyboardInterrupt):
        with GuardedReads([X]):
            os.truncate(path, 0)
            X.sum()
            raise KeyboardInterrupt
    path.write_bytes(content)
    with path.open("r+b") as file, pytest.raises(MappedFileError, match="cannot be found"):
        X = np.load(path, mmap_mode="r")
        path.unlink()
        with GuardedReads([X]):
            file.truncate(0)
            X.sum()


def test_more_ranges_than_are_guarded(tmp_path):
    maps = [np.memmap(tmp_path / "file", np.uint8, "w+", shape=(9,)) for _ in range(300)]
    with GuardedReads(maps) as first, GuardedReads(maps) as second:
        first.check(), second.check()
    with pytest.raises(MappedFileError):  # the ranges are free again
        with GuardedReads(maps[-1:]):
            os.truncate(tmp_path / "file", 0)
            maps[-1].sum()


def model_of(rng=0):
    return fm.Trainer(fm.MLP(COLUMNS, [16], 3, rng=rng), fm.CrossEntropyLoss(), fm.Adam(0.01))


@pytest.mark.parametrize("where", ["evaluation", "step", "held-out rows"])
def test_a_fit_keeps_the_last_good_weights_and_goes_on(rows, tmp_path, where):
    X, path, content, y = rows
    held_out = np.load(path, mmap_mode="r") if where == "held-out rows" else np.array(X[:50])
    trained = np.array(X) if where == "held-out rows" else X
    options = {"validation": (held_out, y[: len(held_out)]), "epochs": 4, "rng": 0, "batch_size": 100, "shuffle": False}
    ref = model_of()
    ref.fit(np.array(X), y, **{**options, "validation": (np.array(held_out), y[: len(held_out)])})

    saved = []

    class Shorten(fm.callbacks.Callback):
        def on_evaluation(self, trainer, record):
            saved.append(trainer.model.state_dict())
            if where != "step" and len(saved) == 2:
                os.truncate(path, 4096)

        if where == "step":

            def on_step(self, trainer, step, loss):
                if step == 90:
                    os.truncate(path, 4096)

    trainer = model_of()
    state = fm.callbacks.SaveState(tmp_path / "state")
    with pytest.raises(
        MappedFileError, match=r"rows.npy could not be read .* The model keeps the weights of step 80\."
    ):
        trainer.fit(trained, y, callbacks=[state, Shorten()], **options)
    assert trainer.steps == 80 and len(trainer.history) == 2
    for name, array in trainer.model.state_dict().items():
        assert np.array_equal(array, saved[1][name])
    path.write_bytes(content)
    again = model_of(5)
    X = np.load(path, mmap_mode="r")
    if where == "held-out rows":
        options["validation"] = (X, y)
    again.fit(
        np.array(X), y, callbacks=[fm.callbacks.SaveState(tmp_path / "state")], resume=tmp_path / "state", **options
    )
    for name, array in again.model.state_dict().items():
        assert np.array_equal(array, ref.model.state_dict()[name])


@pytest.mark.parametrize("call", ["evaluate", "predict", "predict_proba", "fit"])
def test_a_file_that_is_shorter_at_the_first_read(rows, call):
    X, path, _, y = rows
    trainer = model_of()
    os.truncate(path, 4096)
    arguments = (X, y) if call in ("evaluate", "fit") else (X,)
    with pytest.raises(MappedFileError, match="rows.npy could not be read"):
        getattr(trainer, call)(*arguments)
    assert trainer.steps == 0


def test_some_rows_of_a_file_that_is_shorter(rows):
    X, path, _, y = rows
    os.truncate(path, 4096)
    with pytest.raises(MappedFileError, match="rows.npy could not be read"):
        model_of().fit(RowSubset(X, np.arange(len(X))[::-1]), y)


@pytest.mark.parametrize("handlers", ["none", "before", "between"])
def test_elsewhere_the_signal_does_what_it_did(tmp_path, handlers):
    code = """
import faulthandler, os, sys
import numpy as np
from fastmlp.io.mapped_reads import GuardedReads
handlers = sys.argv.pop()
X, other = (np.memmap(path, np.uint8, "w+", shape=(99999,)) for path in sys.argv[1:])
if handlers == "before":
    faulthandler.enable()
with GuardedReads([X]):
    pass
if handlers == "between":  # Python's handler then has ours as its predecessor, and the next guard the other way round
    faulthandler.enable()
with GuardedReads([X]) as reads:
    os.truncate(sys.argv[1], 0)
    X.sum()
    print("guarded", flush=True)
    os.truncate(sys.argv[2], 0)
    other.sum()
"""
    command = [sys.executable, "-c", code, str(tmp_path / "one"), str(tmp_path / "two"), handlers]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.stdout == "guarded\n" and done.returncode == -signal.SIGBUS
    assert done.stderr.count("Fatal Python error: Bus error") == (handlers != "none")
