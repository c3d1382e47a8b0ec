"""The persistent CUDA kernel as compiled code, with a GPU's tile sizes: equal to the modules' steps."""

from __future__ import annotations

import importlib
import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from checks import assert_matches
from compiled import NATIVE
from same_gpu_steps import assert_same_steps, rows_of

import fastmlp as fm
from fastmlp._kernels import get_backend
from fastmlp._kernels.cuda import table

pytestmark = pytest.mark.skipif(not NATIVE, reason="needs FASTMLP_NATIVE_CUDA=1")
pytest.importorskip("numba_cuda")
pytest.importorskip("greenlet")


@pytest.fixture(autouse=True)
def on_numpy():
    with fm.use_backend("numpy"):
        yield


def machine(blocks, most=3):
    from native import Compiled

    return Compiled(blocks, min(blocks, most))


SHAPES = {  # widths, batch, rows, multiprocessors, whether tiles are wide
    "chain": ([9, 17, 66, 5], 70, 100, 3, False),
    "parts": ([300, 65, 5], 33, 40, 16, False),
    "fours": ([16, 72, 64, 8], 70, 100, 3, False),
    "wide": ([33, 140, 5], 130, 131, 1, True),
}


@pytest.mark.parametrize(
    ("name", "precision", "dtype"),
    [
        ("chain", "float32", "float32"), ("fours", "float32", "float32"), ("parts", "float32", "float64"),
        ("wide", "float32", "float32"), ("parts", "tf32", "float32"), ("wide", "bf16", "float32"),
        ("wide", "bf16x6", "float32"),
    ],
)  # fmt: skip
def test_shapes(name, precision, dtype):
    widths, batch, rows, blocks, wide = SHAPES[name]
    model = partial(fm.MLP, widths[0], widths[1:-1], widths[-1], "tanh", dtype=dtype, rng=0)
    data, there = rows_of(rows, widths[0], widths[-1]), machine(blocks)
    options = {"batch": batch, "machine": there, "l2": 0.1, "precision": precision}
    plan = assert_same_steps(model, fm.CrossEntropyLoss, partial(fm.SGD, 0.1, 0.9), data, **options)
    assert plan.wide == wide
    assert {"chain": plan.stages[0, table.KIND] == table.CHAIN, "parts": (plan.jobs[:, table.SPLITS] > 1).any()}.get(
        name, True
    )


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_all_layers_and_terms(dtype):
    """uint8 features, outputs that are scaled, weights of rows and classes, clipping, L2, an average."""
    X, y = np.random.default_rng(0).integers(0, 9, (75, 12)).astype(np.uint8), np.arange(75) % 3
    weight = np.random.default_rng(1).uniform(0.5, 2, 75)
    normalize = fm.Normalize(np.full(12, 4.0), np.linspace(1, 3, 12), dtype)
    options = {"layer_norm": True, "dropout": 0.3, "normalize": normalize, "dtype": dtype, "rng": 0}
    last = fm.Normalize([-1.0, 0.5, 0.0], [0.5, 2.0, 1.0], dtype)
    loss = partial(fm.CrossEntropyLoss, class_weight=[0.5, 2, 1], label_smoothing=0.1)
    optimizer = partial(fm.Adam, 0.01, eps=1e-3, clip_norm=0.5, clip_value=0.2, weight_decay=0.1)
    there, further = machine(4), {"weight": weight, "l2": 0.3, "average": 0.9, "batch": 66}

    def model():
        return fm.Sequential(fm.MLP(12, [70, 9], 3, "gelu", **options), last)

    plan = assert_same_steps(model, loss, optimizer, (X, y), machine=there, **further)
    expected = {table.NORM, table.DROP, table.UPDATE, table.NORM_GRADIENT, table.NORMALIZE, table.NORMALIZE_BACK}
    assert expected <= {int(kind) for kind in plan.jobs[:, table.KIND]}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_changed_rows_in_steps_of_two_batches(dtype):
    X, y = np.random.default_rng(0).integers(0, 9, (75, 36)).astype(np.uint8), np.arange(75) % 3
    weight = np.random.default_rng(1).uniform(0.5, 2, 75)
    normalize = fm.Normalize(np.full(36, 4.0), np.linspace(1, 3, 36), dtype)
    model = partial(fm.MLP, 36, [20], 3, "tanh", dropout=0.3, normalize=normalize, dtype=dtype, rng=0)
    augment = [fm.HorizontalFlip((3, 3, 4), axis=1), fm.Mixup(0.5), fm.GaussianNoise(0.1)]
    options = {"machine": machine(2), "batch": 33, "accumulate": 2, "weight": weight, "augment": augment}
    assert_same_steps(model, fm.CrossEntropyLoss, partial(fm.SGD, 0.1), (X, y), **options)


def test_targets_in_rows():
    X, _ = rows_of(70, 6)
    model = partial(fm.MLP, 6, [20], 2, "softplus", rng=0)
    optimizer = partial(fm.RMSprop, 0.005, eps=1e-3, momentum=0.5, centered=True)
    assert_same_steps(model, partial(fm.HuberLoss, 0.3), optimizer, (X, X[:, :2] ** 2), batch=65, machine=machine(2))


def test_cuda_stages_are_timed(monkeypatch, capsys, tmp_path):
    """`bench/gpu_stages.py`, as on a GPU but for the clock; the timed kernel makes the same steps."""
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "bench")
    stages = importlib.import_module("gpu_stages")
    gpu = get_backend("cuda").machine()
    for name in ("wait", "header"):
        monkeypatch.setattr(gpu, name, getattr(gpu, name))  # registers the restoration by monkeypatch
    # Room for the barriers of four steps of two stages and those before the first step.
    monkeypatch.setattr(stages, "CLOCKS", stages._FIRST + 2 * 10)
    tiny = stages.Case("tiny", (5, 6, 3), "relu", "cross entropy", "Adam", 4, rows=8)
    trainers = []

    def trainer(*given, **options):
        trainers.append(fm.Trainer(*given, **options))
        return trainers[-1]

    # The usual kernel is compiled first, as Numba reuses device functions in later kernels.
    data = stages.make_data(tiny)
    with fm.use_backend("cuda"):
        ref = trainer(tiny.model(data), tiny.make_loss(), tiny.make_optimizer())
    for steps in (2, 4):
        ref.fit(data.X, data.y, max_steps=steps, batch_size=tiny.batch, rng=stages.SEED, drop_last=True)
    monkeypatch.setattr(stages, "Trainer", trainer)
    monkeypatch.setitem(stages.CASES, "tiny", tiny)
    monkeypatch.setattr("sys.argv", ["gpu_stages.py", "tiny", "--json", str(tmp_path / "stages.json")])
    stages.main()
    _, comp = trainers
    for name, array in ref.model.state_dict().items():
        assert_matches(array, comp.model.state_dict()[name], 0, name)
    chain, spread = json.loads((tmp_path / "stages.json").read_text())["tiny"]
    assert [chain["kind"], spread["kind"]] == ["chain", "spread"]
    assert chain["jobs"][0] == "FORWARD 0, 1 tiles along" and spread["jobs"][-1] == "GATHER 0, 1 tiles along"
    assert all(stage[what] > 0 for stage in (chain, spread) for what in ("busy", "waiting"))
    printed = capsys.readouterr().out
    assert "tiny: " in printed and "2 stages" in printed and "spread: WEIGHTS 0, 1 tiles along" in printed
