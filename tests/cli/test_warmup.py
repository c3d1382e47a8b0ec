"""`fastmlp warmup` compiles all kernels of a plain fit."""

from __future__ import annotations

import ast

import compile_recorder
import pytest

from fastmlp._kernels import cache_files
from fastmlp._kernels.compiled import on_demand
from fastmlp._kernels.reference import ACTIVATIONS
from fastmlp.cli import warmup
from fastmlp.losses import loss_types
from fastmlp.optim import optimizer_types

# Prints the kernels that the command wants, after its own lines.
WARMUP = """
import compile_recorder
from fastmlp.cli import main

with compile_recorder.recorded() as found:
    assert main(["warmup"]) == 0
print(found.kernels)
"""
# Prints those of every combination of what the help lists, and what was compiled or saved for them.
FITS = """
import compile_recorder
import itertools
import numpy as np
import fastmlp as fm

generator = np.random.default_rng(0)
raw = generator.integers(0, 256, (50, 7), np.uint8)
labels = generator.integers(0, 4, 50)
flags = np.eye(4, dtype=np.float32)[labels]
with compile_recorder.recorded() as found:
    for activation, loss, optimizer, source, hidden, scaled in itertools.product(
        ("relu", "elu", "tanh"),
        (fm.CrossEntropyLoss, fm.MSELoss, fm.BCEWithLogitsLoss),
        (lambda: fm.SGD(1e-6, momentum=0.9), lambda: fm.Adam(1e-6, weight_decay=1e-4), lambda: fm.SGD(1e-6)),
        ("uint8", "float32"),
        ((), (9,), (9, 5)),
        (False, True),
    ):
        X, y = raw.astype(source), labels if loss is fm.CrossEntropyLoss else flags
        scaling = fm.Normalize.fit(X) if scaled else None
        model = fm.MLP(7, hidden, 4, activation, normalize=scaling, rng=0)
        if loss is fm.MSELoss and scaled:
            model = fm.Sequential(model, fm.Normalize(np.ones(4), np.full(4, 2.0)))
        trainer = fm.Trainer(model, loss(), optimizer())
        trainer.fit(X, y, validation=(X, y), batch_size=16, epochs=1, rng=0)
        trainer.evaluate(X, y), trainer.predict(X)
        if loss is not fm.MSELoss:
            trainer.predict_proba(X)
print(found.kernels)
print(found.compiled + found.saved)
"""


@pytest.mark.slow
def test_afterwards_a_plain_fit_compiles_nothing(start):
    def run(code):
        with start(env=compile_recorder.environment(), python=("-W", "error", "-c", code)) as process:
            out, err = process.communicate(timeout=250)
        assert (process.returncode, err) == (0, "")
        return out.splitlines()

    *lines, warmed = run(WARMUP)
    assert len(lines) == 5 and lines[0].startswith("float32 relu, CrossEntropyLoss, sgd, uint8  ")
    assert lines[3].endswith("; kernels are cached in") and lines[4].startswith(str(cache_files()[0]))
    assert int(lines[3].split()[0]) == sum(int(line.split()[-4]) for line in lines[:3])
    kernels, compiled = map(ast.literal_eval, run(FITS))
    assert len(kernels) > 20 and set(kernels) <= set(ast.literal_eval(warmed)) and compiled == []


@pytest.fixture
def fits(monkeypatch):
    """The fits that would be made."""
    made = []
    monkeypatch.setattr(warmup, "compiles", lambda: True)
    monkeypatch.setattr(warmup, "_fit", lambda dtype, *parts, **layers: made.append((dtype, parts, layers)))
    return made


def test_plain(fastmlp, fits):
    assert fastmlp("warmup")[::2] == (0, "")
    assert {dtype for dtype, _, _ in fits} == {"float32"} and not any(layers for _, _, layers in fits)
    assert [sorted({parts[i] for _, parts, _ in fits}) for i in range(4)] == [
        ["elu", "relu", "tanh"],
        ["BCEWithLogitsLoss", "CrossEntropyLoss", "MSELoss"],
        ["adam", "sgd"],
        ["float32", "uint8"],
    ]
    fits.clear()
    code, out, _ = fastmlp("warmup", "--dtype", "float64", "--dtype", "float32", "--dtype", "float64")
    assert code == 0 and "0 functions compiled in" in out
    assert [dtype for dtype, _, _ in fits] == 3 * ["float64"] + 3 * ["float32"]
    assert {parts[3] for dtype, parts, _ in fits if dtype == "float64"} == {"uint8", "float64"}


def test_kernels_that_are_compiled_already(fastmlp, monkeypatch):
    monkeypatch.setattr(warmup, "compiles", lambda: False)
    assert fastmlp("warmup")[:2] == (
        0, "There is nothing to compile: the kernels were compiled when fastmlp was installed.\n",
    )  # fmt: skip


def test_what_is_compiled_is_counted(fastmlp, monkeypatch):
    monkeypatch.setattr(warmup, "compiles", lambda: True)
    monkeypatch.setattr(warmup, "_fit", lambda *parts: [started("a kernel") for started in on_demand._watching])
    _, out, _ = fastmlp("warmup")
    assert [line.split()[-4:-2] for line in out.splitlines()[:3]] == 3 * [["1", "compiled"]]
    assert "\n3 functions compiled in " in out


def test_all(fastmlp, fits):
    assert fastmlp("warmup", "--all")[0] == 0
    activations, measures, optimizers, sources = (sorted({parts[i] for _, parts, _ in fits}) for i in range(4))
    assert activations == sorted(ACTIVATIONS) and sources == ["float32", "float64", "uint8"]
    assert {name.partition(" of ")[0] for name in measures} == {kind.__name__ for kind in loss_types()}
    assert "CrossEntropyLoss of probabilities" in measures
    assert optimizers == sorted({*optimizer_types(), "keepgradient"})
    with_layers = [parts for _, parts, layers in fits if layers.get("augmented")]
    assert with_layers == [parts for _, parts, layers in fits if not layers]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_each_fit_works(dtype):
    """On the backend that needs no compiler."""
    with warmup.use_backend("numpy"):
        for parts in warmup._combinations(dtype, True):
            warmup._fit(dtype, *parts)
            warmup._fit(dtype, *parts, augmented=True, layer_norm=True, dropout=0.1)


def test_bad_usage(fastmlp):
    code, _, err = fastmlp("warmup", "--dtype", "float16")
    assert code == 2 and "float16" in err
