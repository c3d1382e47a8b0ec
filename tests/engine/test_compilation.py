"""Kernels are compiled once: not again in a second process, nor for a model, batch or team of another size."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import fastmlp as fm

numba = pytest.importorskip("numba")
if numba.config.DISABLE_JIT:
    pytest.skip("nothing is compiled", allow_module_level=True)

# Prints what was compiled for a first model, and then for ones of other sizes.
TRAIN = """
import numpy as np
import fastmlp as fm
from numba.core import event

def train(features, hidden, classes, batch, threads, optimizer, first=0):
    X = np.random.default_rng(0).standard_normal((70, features)).astype(np.float32)[first:]
    y = np.arange(70)[first:] % classes
    model = fm.MLP(features, hidden, classes, layer_norm=True, dropout=0.1, rng=0)
    trainer = fm.Trainer(model, fm.CrossEntropyLoss(), optimizer)
    trainer.fit(X, y, validation=(X, y), batch_size=batch, max_steps=5, rng=0, threads=threads)
    assert trainer._session is not None
    for _ in range(2):
        trainer.step(X[:7], y[:7])
    trainer.predict_proba(np.repeat(X, 5, axis=0))
    trainer.evaluate(X, y)

def compiled(*cases):
    with event.install_recorder("numba:compile") as recorder:
        for case in cases:
            train(*case)
    return [str(record.data["dispatcher"]) for _, record in recorder.buffer if record.is_start]

fm.set_backend("numba")
print(compiled((9, [16, 8], 3, 20, 1, fm.Adam(0.01))))
print(compiled(
    (9, [16, 8], 3, 20, 1, fm.Adam(0.01)),
    (300, [8], 2, 7, 2, fm.AdamW(0.01, clip_norm=1.0, clip_value=0.1)),
    (1, [33, 40, 50], 1, 70, 3, fm.Adam(fm.StepDecay(0.01, 2), eps=0.1)),
    (17, [], 1000, 1, 2, fm.Adam(0.01), 1),
))
"""


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """A folder for compiled kernels, empty at first."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def in_a_process(cache):
    """(compiled for the first model, compiled for the others), in a new process each time."""

    def run():
        variables = {**os.environ, "PYTHONPATH": str(Path(fm.__file__).parents[1]), "NUMBA_CACHE_DIR": str(cache)}
        command = [sys.executable, "-W", "error", "-c", TRAIN]
        done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=280)
        assert (done.returncode, done.stderr) == (0, "")
        first, others = map(ast.literal_eval, done.stdout.splitlines())
        return first, others

    return run


@pytest.fixture(scope="module")
def first_run(in_a_process):
    return in_a_process()


def files(folder):
    return {path.name: path.stat().st_mtime_ns for path in folder.rglob("*.nb*")}


def test_models_batches_and_teams_of_other_sizes_compile_nothing(first_run):
    first, others = first_run
    assert first and others == []


def test_a_second_process_compiles_nothing(first_run, in_a_process, cache):
    kept = files(cache)
    assert kept
    assert in_a_process() == ([], [])
    assert files(cache) == kept
