"""Functions by column: the backends, the engine, the GPU's steps and C agree, with one and two numbers a column."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import stretch
from checks import C, assert_matches, eps, floor
from compiled import SIMULATED
from same_steps import assert_same_steps

import fastmlp as fm
from fastmlp._kernels import formulas, reference


class Stretch(fm.Module):
    """y = a tanh(b x) by column."""

    def __init__(self, features, dtype=np.float32):
        super().__init__(np.dtype(dtype), features, features)
        rng = np.random.default_rng(features)
        self.set_arrays({name: rng.uniform(0.5, 2, features).astype(dtype) for name in "ab"}, {})

    def _compute(self, x, keep):
        out = self.backend.empty(x.shape, self.dtype)
        self.backend.columns_forward("stretch", x, self.params["a"], self.params["b"], out)
        if keep:
            self._saved = (x,)
        return out

    def _gradient(self, dy, need_dx):
        (x,), params, grads = self._saved, self.params, self.grads
        dx = self.backend.empty(x.shape, self.dtype)
        self.backend.columns_backward("stretch", dy, x, params["a"], params["b"], dx, grads["a"], grads["b"])
        self.has_gradients = True
        return dx

    def lower(self, builder):
        builder.columns("stretch", "a", "b")

    def config(self):
        return {"type": "Stretch", "features": self.in_width, "dtype": str(self.dtype)}


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    from fastmlp.modules import config

    monkeypatch.setitem(formulas._registered["columns"], "stretch", stretch)
    monkeypatch.setitem(reference._COLUMNS, "stretch", stretch.REFERENCE)
    monkeypatch.setitem(config._registered, "Stretch", Stretch)


WIDTHS = (1, 7, 17) if SIMULATED else (1, 7, 8, 16, 17, 33)


def arrays_of(rng, rows, width, dtype):
    x, dy = rng.normal(size=(2, rows, width)).astype(np.float32).astype(dtype)
    a, b = rng.uniform(0.5, 2, (2, width)).astype(np.float32).astype(dtype)
    return x, dy, a, b


@pytest.mark.parametrize("rows", [1, 5])
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("kind", ["stretch", *formulas.names("columns")])
@pytest.mark.sampled
def test_backends(compiled, kind, width, rows, dtype, rng):
    arrays = arrays_of(rng, rows, width, dtype)
    two = reference._COLUMNS[kind][3] is not None
    wide = [array.astype(np.float64) for array in arrays]
    results = []
    for backend, (x, dy, a, b) in ((reference, wide), (compiled, arrays)):
        out, dx = (np.full(x.shape, np.nan, x.dtype) for _ in range(2))
        da, db = (np.full(width, np.nan, x.dtype) for _ in range(2))
        backend.columns_forward(kind, x, a, b if two else None, out)
        backend.columns_backward(kind, dy, x, a, b if two else None, dx, da, db if two else None)
        results.append([out, dx, da, db] if two else [out, dx, da])
    for ref, comp in zip(*results, strict=True):
        # Each of the `rows` terms of a sum is of order 1 and has a few roundings.
        assert_matches(ref, comp, 8 * C * eps(dtype) * np.sqrt(rows) * (4 + np.abs(wide[0]).max()) + floor(dtype))


def model_of(dtype):
    return fm.Sequential(
        Stretch(9, dtype), fm.Linear(9, 19, dtype=dtype, rng=1), Stretch(19, dtype), Stretch(19, dtype), fm.Tanh(),
        fm.Linear(19, 3, dtype=dtype, rng=2), Stretch(3, dtype),
    )  # fmt: skip


@pytest.mark.skipif(SIMULATED, reason="the engine is the CPU's")
@pytest.mark.parametrize("clip", [None, 0.1])
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.sampled
def test_engine(dtype, threads, clip, rng):
    X, y = rng.normal(size=(40, 9)).astype(dtype), rng.integers(0, 3, 40)
    optimizer = partial(fm.Adam, 0.01, clip_norm=clip)
    assert_same_steps(partial(model_of, dtype), fm.CrossEntropyLoss, optimizer, (X, y), threads=threads)


@pytest.mark.skipif(SIMULATED, reason="the engine is the CPU's")
def test_padding(dtype, rng):
    from engine.test_padding import assert_clean, trained

    data = rng.normal(size=(40, 9)).astype(dtype), rng.integers(0, 3, 40)
    assert assert_clean(*trained(model_of(dtype), fm.CrossEntropyLoss(), fm.SGD(0.1), data)) > 20


@pytest.mark.parametrize("blocks", [1, 3])
def test_steps_on_a_gpu(blocks):
    pytest.importorskip("numba_cuda")
    pytest.importorskip("greenlet")
    from same_gpu_steps import assert_same_steps as assert_same_gpu_steps
    from same_gpu_steps import rows_of
    from simulated import Simulated

    def model():
        return fm.Sequential(
            Stretch(5, "float64"), fm.Linear(5, 4, dtype="float64", rng=0), Stretch(4, "float64"),
            fm.Linear(4, 3, dtype="float64", rng=1), Stretch(3, "float64"),
        )  # fmt: skip

    with fm.use_backend("numpy"):
        assert_same_gpu_steps(
            model, fm.CrossEntropyLoss, partial(fm.SGD, 0.1, 0.9, clip_norm=0.05), rows_of(), machine=Simulated(blocks)
        )


def test_c(tmp_path, rng):
    from exchange.test_c import CC, outputs

    if CC is None:
        pytest.skip("no C compiler")
    with fm.use_backend("numpy"):
        model = model_of("float64")
        x = rng.normal(size=(5, 9))
        ref = model.infer(x)
    assert_matches(ref, outputs(model, x, tmp_path), 64 * C * eps(np.float64) * np.sqrt(19) * 8)
    assert fm.Predictor(model).instructions == "numpy"  # compiled kernels are those of the package's formulas
