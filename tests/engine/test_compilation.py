"""Compilation of kernels: not repeated in a second process or for other sizes of model, batch or thread team."""

from __future__ import annotations

import ast
import subprocess
import sys

import pytest

numba = pytest.importorskip("numba")
if numba.config.DISABLE_JIT:
    pytest.skip("nothing is compiled", allow_module_level=True)

import compile_recorder  # noqa: E402

# Prints the kernels requested, compiled and saved for one model, then the same for models of other sizes.
TRAIN = """
import compile_recorder
import numpy as np
import fastmlp as fm

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

def needed(*cases):
    with compile_recorder.recorded() as found:
        for case in cases:
            train(*case)
    return found.kernels, found.compiled + found.saved

fm.set_backend("numba")
print(needed((9, [16, 8], 3, 20, 1, fm.Adam(0.01))))
print(needed(
    (9, [16, 8], 3, 20, 1, fm.Adam(0.01)),
    (300, [8], 2, 7, 2, fm.AdamW(0.01, clip_norm=1.0, clip_value=0.1)),
    (1, [33, 40, 50], 1, 70, 3, fm.Adam(fm.StepDecay(0.01, 2), eps=0.1)),
    (17, [], 1000, 1, 2, fm.Adam(0.01), 1),
))
"""


@pytest.fixture(scope="module")
def in_a_process():
    """((kernels of the first model, what was compiled or saved), the same of the others), by a new process."""

    def run():
        command = [sys.executable, "-W", "error", "-c", TRAIN]
        done = subprocess.run(command, env=compile_recorder.environment(), capture_output=True, text=True, timeout=280)
        assert (done.returncode, done.stderr) == (0, "")
        first, others = map(ast.literal_eval, done.stdout.splitlines())
        return first, others

    return run


@pytest.fixture(scope="module")
def first_run(in_a_process):
    return in_a_process()


@pytest.mark.slow
def test_models_batches_and_teams_of_other_sizes_compile_nothing(first_run):
    (kernels, _), others = first_run
    assert len(kernels) > 10 and others == ([], [])


@pytest.mark.slow
def test_a_second_process_compiles_nothing(first_run, in_a_process):
    (kernels, _), _ = first_run
    assert in_a_process() == ((kernels, []), ([], []))
