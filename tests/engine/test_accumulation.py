"""Gradient accumulation: equal to module by module, and to one large batch."""

from __future__ import annotations

import contextlib
from functools import partial

import numpy as np
import pytest
from checks import assert_matches
from same_steps import TOLERANCE, arrays_of, assert_same_steps
from scipy import sparse

import fastmlp as fm

numba = pytest.importorskip("numba")
if numba.config.DISABLE_JIT:
    pytest.skip("the engine runs jitted only", allow_module_level=True)

momentum = partial(fm.SGD, 0.1, 0.9)


@pytest.fixture(autouse=True)
def on_numba():
    with fm.use_backend("numba"):
        yield


def rows_of(count=100, features=9, classes=3):
    generator = np.random.default_rng(0)
    return generator.standard_normal((count, features)), generator.integers(0, classes, count)


def model_of(dtype, **options):
    return partial(fm.MLP, 9, [19, 12], 3, "tanh", layer_norm=True, dtype=dtype, rng=0, **options)


CASES = {
    "plain": ({}, momentum, {}),
    "adam": ({}, partial(fm.Adam, 0.01), {}),
    "clip_norm": ({}, partial(fm.SGD, 0.5, clip_norm=0.05), {}),
    "clip_value": ({}, partial(fm.SGD, 0.5, clip_value=0.01), {}),
    "l2": ({}, momentum, {"l2": 0.5}),
    "dropout": ({"dropout": 0.3}, momentum, {}),
    "mixtures": ({}, momentum, {"augment": [fm.Mixup(), fm.GaussianNoise(), fm.HorizontalFlip((9,))]}),
    "everything": ({"dropout": 0.3}, partial(fm.Adam, 0.01, clip_norm=0.05), {"l2": 0.5, "augment": [fm.Mixup()]}),
}


@pytest.mark.slow
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", CASES)
def test_as_module_by_module(name, threads, dtype):
    """100 rows in steps of 3 batches of 13: the last step of an epoch has two, the last of them short."""
    model, optimizer, options = CASES[name]
    weight = np.random.default_rng(1).uniform(0.1, 2, 100)
    loss = partial(fm.CrossEntropyLoss, class_weight=[0.5, 2.0, 1.0])
    for weights in (None, weight):
        assert_same_steps(
            model_of(dtype, **model),
            loss,
            optimizer,
            rows_of(),
            weight=weights,
            accumulate=3,
            threads=threads,
            **options,
        )


@pytest.mark.sampled
@pytest.mark.parametrize("loss", [fm.CrossEntropyLoss, fm.MSELoss])
@pytest.mark.parametrize("accumulate", [2, 3, 7, 50])
def test_as_one_batch_of_all_their_rows(accumulate, loss, dtype):
    X, y = rows_of()
    y = y if loss is fm.CrossEntropyLoss else X[:, :3]
    made = []
    for options in ({"batch_size": 13, "accumulate": accumulate}, {"batch_size": 13 * accumulate}):
        trainer = fm.Trainer(model_of(dtype)(), loss(), momentum(), l2=0.1)
        trainer.fit(X, y, epochs=3, rng=1, **options)
        made.append(trainer)
    ref, comp = made[1], made[0]
    assert comp.steps == ref.steps and comp._session.engine.batch == 13
    assert_matches(ref.step_losses, comp.step_losses, TOLERANCE[str(dtype)] * np.abs(ref.step_losses))
    for name, array in arrays_of(ref).items():
        assert_matches(array, arrays_of(comp)[name], TOLERANCE[str(dtype)] * np.abs(array).max(), name)


def trained(**options):
    model = fm.MLP(9, [40], 3, dropout=0.2, rng=0)
    trainer = fm.Trainer(model, fm.CrossEntropyLoss(), fm.Adam(0.01, clip_norm=0.1))
    trainer._open_session(options.get("threads", 1), 13).chunk = options.pop("chunk", None)
    options = {"batch_size": 13, "accumulate": 3, "max_steps": 30, "rng": 1, "threads": 1, "eval_every": 4, **options}
    trainer.fit(*rows_of(), **options)
    return b"".join(array.tobytes() for array in arrays_of(trainer).values())


def test_same_bits_for_any_threads_and_calls(tmp_path):
    ref = trained()
    for options in ({"threads": 2}, {"threads": 3}, {"chunk": 1}, {"chunk": 7}):
        assert trained(**options) == ref, options
    stopped, path = [], tmp_path / "state"

    def stop(trainer, record):
        stopped.append(record["step"])
        if len(stopped) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trained(callbacks=[fm.SaveState(path), stop])
    assert trained(callbacks=[fm.SaveState(path)], resume=path) == ref
    with pytest.raises(fm.ResumeError, match="its accumulate is 3, here it is 2"):
        trained(callbacks=[fm.SaveState(path)], resume=path, accumulate=2)


def test_memory_is_that_of_a_batch():
    sizes = []
    for options in ({"batch_size": 64, "accumulate": 32}, {"batch_size": 64}, {"batch_size": 2048}):
        trainer = fm.Trainer(fm.MLP(9, [256, 256], 3, rng=0), fm.CrossEntropyLoss(), fm.SGD())
        trainer.fit(*rows_of(2048), epochs=1, rng=0, **options)
        sizes.append(trainer._session.engine._plan.work.nbytes)
    parameters = 4 * trainer.model.num_parameters
    assert sizes[1] < sizes[0] < sizes[1] + 1.2 * parameters and sizes[2] > 10 * sizes[1]


@pytest.mark.parametrize("way", ["engine", "modules"])
def test_a_loss_that_is_not_finite_in_a_later_batch_changes_nothing(way):
    X, _ = rows_of(26)
    y = X[:, :3].copy()
    with fm.use_backend("numba" if way == "engine" else "numpy"):
        trainer = fm.Trainer(fm.MLP(9, [8], 3, rng=0), fm.MSELoss(), fm.SGD())
    before = trainer.model.state_dict()
    X[20] = 1e30
    with pytest.raises(fm.DivergenceError, match="the loss of step 1 is"):
        trainer.fit(X, y, batch_size=13, accumulate=2, shuffle=False, epochs=1)
    assert trainer.steps == 0
    for name, array in trainer.model.state_dict().items():
        np.testing.assert_array_equal(array, before[name])


@pytest.mark.slow
def test_classes_of_no_weight_in_a_batch():
    """The sum of a batch's class weights may be 0 where that of the step is not."""
    X, y = rows_of(26)
    y[:13], y[13:] = 0, 1
    states = []
    for backend in ("numba", "numpy"):
        with fm.use_backend(backend):
            model = fm.MLP(9, [8], 2, dtype=np.float64, rng=0)
            trainer = fm.Trainer(model, fm.CrossEntropyLoss(class_weight=[0, 1]), fm.SGD(0.1))
        trainer.fit(X, y, batch_size=13, accumulate=2, shuffle=False, epochs=2)
        states.append(model.state_dict())
    for name, array in states[1].items():
        assert_matches(array, states[0][name], 1e-12)


@pytest.mark.parametrize(("batch", "accumulate"), [(10**18, 1), (10**18, 10**18), (7, 10**18), (100, 2)])
def test_more_than_there_is_means_all(batch, accumulate):
    """However many are asked for."""
    rows, results = rows_of(20), []
    for size, number in ((batch, accumulate), (min(batch, 20), -(-20 // min(batch, 20)))):
        trainer = fm.Trainer(model_of("float64")(), fm.CrossEntropyLoss(), momentum())
        trainer.fit(*rows, batch_size=size, accumulate=number, epochs=3, rng=0)
        assert trainer.steps == 3
        results.append(b"".join(array.tobytes() for array in arrays_of(trainer).values()))
    assert results[0] == results[1]


@pytest.mark.slow
@pytest.mark.parametrize("kind", [np.asfortranarray, lambda X: (9 * X).astype(np.int16), sparse.csr_array])
def test_rows_that_are_converted_go_batch_by_batch_where_they_are_many(kind, monkeypatch):
    X, y = rows_of()
    results = []
    for most in (1 << 26, 9 * 8 * 20):
        monkeypatch.setattr("fastmlp.engine.runner.STAGED", most)
        trainer = fm.Trainer(model_of("float64")(), fm.CrossEntropyLoss(), momentum())
        slower = pytest.warns(fm.PerformanceWarning, match="all rows of a step would have to be in memory at once")
        with slower if results else contextlib.nullcontext():
            trainer.fit(kind(X), y, batch_size=7, accumulate=3, epochs=2, rng=0)
        results.append(trainer)
    assert results[0]._session is not None and results[1]._session is None
    for name, array in arrays_of(results[0]).items():
        assert_matches(array, arrays_of(results[1])[name], 1e-12 * (1 + np.abs(array)))
