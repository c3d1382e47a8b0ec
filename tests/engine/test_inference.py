"""Inference by the engine: equal to `Module.infer`, in bounded memory."""

from __future__ import annotations

import threading
import tracemalloc

import numpy as np
import pytest
from activations import EXAMPLES, curve
from checks import Activated, C, assert_matches, elementwise_bound, eps, floor, linear_bound

import fastmlp as fm
from fastmlp.training.evaluator import Evaluator

numba = pytest.importorskip("numba")
if numba.config.DISABLE_JIT:
    pytest.skip("the engine runs jitted only", allow_module_level=True)

from fastmlp._common.thread_pool import POOL  # noqa: E402
from fastmlp._kernels.cpu import engine as kernels  # noqa: E402


@pytest.fixture(autouse=True)
def on_numba():
    with fm.use_backend("numba"):
        yield


@pytest.fixture
def calls(monkeypatch):
    """The numbers of threads that the engine's kernel was called with."""
    seen, train = [], kernels.train

    def spy(thread, threads, *rest):
        seen.append(threads)
        return train(thread, threads, *rest)

    monkeypatch.setattr(kernels, "train", spy)
    return seen


def exactly(model, x, dtype):
    """The outputs in float64, and how far off they may be in ``dtype``: the rule of `checks`, module by module."""
    bound, unit = np.zeros_like(x), C * eps(dtype)
    for module in model:
        arrays = {name: array.astype(np.float64) for name, array in (module.params | module.buffers).items()}
        if isinstance(module, fm.Linear):
            weight, bias = arrays["weight"], arrays.get("bias")
            bound = bound @ np.abs(weight.T) + linear_bound(np.abs(x) + bound, weight, bias, dtype)
            x = x @ weight.T + (0 if bias is None else bias)
        elif isinstance(module, fm.Normalize):
            size = np.abs(x) + np.abs(arrays["mean"])
            x, scale = (x - arrays["mean"]) / arrays["scale"], np.abs(arrays["scale"])
            bound = bound / scale + unit * (size / scale + np.abs(x))
        elif isinstance(module, fm.LayerNorm):
            mean, rstd = x.mean(1, keepdims=True), 1 / np.sqrt(x.var(1, keepdims=True) + module.eps)
            spread = bound + unit * np.sqrt(x.shape[1]) * (np.abs(x) + np.abs(mean))
            spread = spread + spread.mean(1, keepdims=True)
            z = (x - mean) * rstd
            # The error of z has two parts: that of the numerator, and that of rstd, the mean of z times errors of x.
            spread = rstd * (spread + np.abs(z) * (np.abs(z) * spread).mean(1, keepdims=True)) + unit * np.abs(z)
            weight, bias = arrays.get("weight", 1.0), arrays.get("bias", 0.0)
            x = z * weight + bias
            bound = spread * np.abs(weight) + unit * (np.abs(z * weight) + np.abs(bias))
        elif isinstance(module, fm.Softmax):
            exponent = x - x.max(1, keepdims=True)
            spread = 2 * (bound.max(1, keepdims=True) + unit * np.abs(exponent).max(1, keepdims=True))
            e = np.exp(exponent)
            x = e / e.sum(1, keepdims=True)
            bound = x * (2 * spread + unit * np.sqrt(x.shape[1]))
        elif not isinstance(module, fm.Dropout):
            after = Activated(curve(module.kind, module.alpha), x, dtype, bound)
            x, bound = after.y, after.bound
    return x, bound + elementwise_bound(x, dtype) + floor(dtype)


def model_of(dtype, *modules, features=21):
    generator = np.random.default_rng(1)
    linears = [fm.Linear(a, b, dtype=dtype, rng=a) for a, b in ((features, 33), (33, 7))]
    scaling = fm.Normalize(generator.standard_normal(features), generator.uniform(0.5, 2, features), dtype)
    model = fm.Sequential(scaling, linears[0], *modules, linears[1])
    for _, array in model.named_parameters():
        array += generator.uniform(-0.1, 0.1, array.shape)  # so that weights of norms differ from 1
    return model


def rows_of(count, dtype, features=21):
    return np.random.default_rng(2).standard_normal((count, features)).astype(dtype)


def session_of(model, threads=1):
    return fm.Trainer(model, fm.MSELoss(), fm.SGD())._open_session(threads, 1)


def assert_as_infer(model, X, threads=1):
    dtype = model.dtype
    session = session_of(model, threads)
    comp = session.infer(X)
    session.close()
    ref, bound = exactly(model, X.astype(np.float64), dtype)
    assert comp.dtype == dtype and comp.flags.c_contiguous
    assert_matches(ref, comp, bound, "engine")
    assert_matches(ref, model.infer(X), bound, "modules")


@pytest.mark.sampled
@pytest.mark.parametrize("name", EXAMPLES)
def test_every_activation(name, dtype):
    make = EXAMPLES[name]
    for modules in ((make(),), (make(), fm.LayerNorm(33, dtype=dtype), make())):
        assert_as_infer(model_of(dtype, *modules), rows_of(150, dtype))


def test_every_other_module(dtype):
    norms = [fm.LayerNorm(33, affine=affine, dtype=dtype) for affine in (True, False)]
    scaling = fm.Normalize(np.linspace(-1, 1, 33), np.linspace(0.5, 2, 33), dtype)
    for modules in (
        [fm.Softmax()],
        norms,
        [scaling],
        [fm.Dropout(0.5)],
        [fm.Tanh(), fm.Dropout(1.0), fm.Softmax(), fm.Dropout()],
    ):
        model = model_of(dtype, *modules)
        for mode in (model.train, model.eval):
            mode()
            assert_as_infer(model, rows_of(150, dtype), threads=2)


@pytest.mark.parametrize("rows", [0, 1, 2, 95, 96, 97, 191, 193, 400])
@pytest.mark.parametrize("threads", [1, 2])
def test_any_number_of_rows(rows, threads, dtype):
    assert_as_infer(model_of(dtype, fm.Tanh()), rows_of(rows, dtype), threads)


@pytest.mark.slow
@pytest.mark.parametrize("features", [1, 7, 8, 9, 16, 17, 300])
def test_any_width_and_source(features, dtype):
    model = model_of(dtype, fm.SiLU(), features=features)
    for real in (np.float32, np.float64):
        X = rows_of(40, real, features)
        for source in (X, np.asfortranarray(X), (X * 9).astype(np.int16), (X * 9).astype(np.uint8)):
            assert_as_infer(model, source)


def test_outputs_of_a_layer_by_itself(dtype):
    assert_as_infer(fm.Sequential(fm.Linear(21, 5, bias=False, dtype=dtype, rng=0)), rows_of(300, dtype))
    assert_as_infer(fm.Sequential(fm.Tanh(), fm.LayerNorm(21, dtype=dtype)), rows_of(300, dtype))


def trainer_of(dtype, loss=None, dropout=0.5):
    modules = fm.LayerNorm(33, dtype=dtype), fm.GELU(), fm.Dropout(dropout)
    return fm.Trainer(model_of(dtype, *modules), loss or fm.CrossEntropyLoss(), fm.Adam(0.01))


@pytest.mark.slow
@pytest.mark.parametrize("rows", [1, 50, 1000])
@pytest.mark.parametrize("source", [np.float32, np.float64, np.int16])
def test_a_trainer_measures_and_answers_as_the_modules_do(rows, source, dtype):
    X, y = (rows_of(rows, np.float64) * 3).astype(source), np.arange(rows) % 7
    weight = np.random.default_rng(3).integers(0, 3, rows).astype(float) + (np.arange(rows) == 0)
    loss = fm.CrossEntropyLoss(class_weight=[1, 2, 3, 4, 5, 6, 7], label_smoothing=0.1)
    trainer = trainer_of(dtype, loss)
    history = trainer.fit(X, y, validation=(X, y, weight), max_steps=4, batch_size=20, rng=0, threads=2)
    used = weight > 0
    for mode in (trainer.model.eval, trainer.model.train):
        mode()
        ref, bound = exactly(trainer.model, X.astype(np.float64), dtype)
        outputs = trainer.model.infer(X)
        assert_matches(ref, outputs, bound)
        tolerance = 40 * bound.max()  # class weights are at most 7, derivatives of the loss at most twice the weight
        value = loss.forward(outputs[used], y[used], weight[used])
        for measured in (trainer.evaluate(X, y, weight), trainer.evaluate(X, y, weight, batch_size=7)):
            assert abs(measured["loss"] - value) <= tolerance
        assert abs(history.last["val_loss"] - value) <= tolerance
        np.testing.assert_array_equal(trainer.predict(X), outputs.argmax(axis=1))
        e = np.exp(ref - ref.max(1, keepdims=True))
        np.testing.assert_allclose(trainer.predict_proba(X), e / e.sum(1, keepdims=True), 0, 4 * bound.max())


def test_regression_and_no_rows_at_all(dtype):
    trainer = trainer_of(dtype, fm.MSELoss())
    X = rows_of(300, dtype)
    ref, bound = exactly(trainer.model, X.astype(np.float64), dtype)
    assert_matches(ref, trainer.predict(X), bound)
    comp = trainer.predict(X[:0])
    assert comp.shape == (0, 7) and comp.dtype == dtype


def test_answers_follow_each_step_and_change_of_the_weights():
    trainer = trainer_of(np.float32)
    X, y = rows_of(1000, np.float32), np.arange(1000) % 7
    for _ in range(3):
        trainer.step(X[:20], y[:20])
        ref = trainer.predict_proba(X)
        assert not np.array_equal(ref, trainer.predict_proba(X * 2))
        np.testing.assert_array_equal(Evaluator(trainer.model, trainer.loss).predict_proba(X), ref)
        before = trainer.evaluate(X, y)["loss"]
        trainer.model[1].params["weight"] *= 1.5
        assert trainer.evaluate(X, y)["loss"] != before


def test_many_rows_are_shared_out_among_threads_of_the_pool(calls, monkeypatch):
    POOL.end()
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    trainer = fm.Trainer(fm.MLP(100, [200], 5, rng=0), fm.MSELoss(), fm.SGD())
    X = rows_of(3000, np.float32, 100)
    ref = trainer.model.infer(X)
    np.testing.assert_allclose(trainer.predict(X), ref, 1e-4, 1e-5)
    assert set(calls) <= {1, 2} and calls
    POOL.end()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("fastmlp")]


@pytest.mark.parametrize("source", ["float32", "int16", "fortran"])
def test_memory_does_not_grow_with_the_rows(source):
    X = np.random.default_rng(0).integers(0, 100, (60_000, 64)).astype("int16" if source == "int16" else "float32")
    X = np.asfortranarray(X) if source == "fortran" else X
    y = np.zeros(len(X), int)
    trainer = fm.Trainer(fm.MLP(64, [32], 3, rng=0), fm.CrossEntropyLoss(), fm.SGD())
    session = session_of(trainer.model)
    for work in (lambda: trainer.predict(X), lambda: trainer.evaluate(X, y), lambda: session.infer(X)):
        work()
        tracemalloc.start()
        work()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 10e6  # in float32 X has 15 MB
