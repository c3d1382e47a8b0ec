"""Same seed, same bits: for any number of threads and of steps per native call, and in every run."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

import fastmlp as fm

numba = pytest.importorskip("numba")
if numba.config.DISABLE_JIT:
    pytest.skip("the engine runs jitted only", allow_module_level=True)

from fastmlp._kernels.cpu import engine as kernels  # noqa: E402
from fastmlp.engine import cpu_plan  # noqa: E402

OPTIMIZERS = {
    "sgd": lambda: fm.SGD(0.05, momentum=0.9, clip_norm=1.0),
    "adam": lambda: fm.Adam(0.01, clip_norm=0.5, clip_value=0.1),
}
BATCH, ROWS = 16, 77  # the fifth batch of an epoch has 13 rows


@pytest.fixture(autouse=True)
def on_numba():
    with fm.use_backend("numba"):
        yield


@pytest.fixture
def team(monkeypatch):
    """What the kernel was called with: {(number of the thread, all threads, the thread's identity)}."""
    seen = set()
    train = kernels.train

    def spy(thread, threads, *rest):
        seen.add((thread, threads, threading.get_ident()))
        return train(thread, threads, *rest)

    monkeypatch.setattr(kernels, "train", spy)
    return seen


def rows_of(dtype, rows=ROWS):
    generator = np.random.default_rng(7)
    return generator.standard_normal((rows, 21)).astype(dtype), generator.integers(0, 5, rows)


def model_of(dtype):
    mlp = fm.MLP(21, [33, 18], 5, "gelu", dropout=0.2, layer_norm=True, dtype=dtype, rng=0)
    return fm.Sequential(mlp, fm.Normalize(np.linspace(-1, 1, 5), np.linspace(0.3, 0.7, 5), dtype))


def trained(model, optimizer, data, *, threads=1, chunk=None, steps=500):
    """The trainer, and the bytes of all that a run leaves: weights, the optimizer's arrays, what was measured."""
    trainer = fm.Trainer(model, fm.CrossEntropyLoss(), optimizer)
    session = trainer._open_session(threads, BATCH)
    session.chunk = chunk
    history = trainer.fit(
        *data, validation=data, batch_size=BATCH, max_steps=steps, eval_every=100, rng=11, threads=threads
    )
    assert trainer._session is session and trainer.steps == trainer.optimizer.steps == steps
    arrays = list(trainer.model.state_dict().values())
    arrays += [array for kinds in trainer.optimizer.state_dict()["state"].values() for array in kinds.values()]
    measured = [history[key] for key in ("train_loss", "val_loss", "val_accuracy")]
    return trainer, b"".join(array.tobytes() for array in [*arrays, np.array(measured)])


@pytest.mark.sampled
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_any_number_of_threads_gives_the_same_bits(optimizer, dtype, team):
    data = rows_of(dtype)
    results = []
    for threads in (1, 2, 3, 4):
        trainer, bits = trained(model_of(dtype), OPTIMIZERS[optimizer](), data, threads=threads)
        results.append(bits)
        assert {call[:2] for call in team} == {(thread, threads) for thread in range(threads)}
        assert len({call[2] for call in team}) == threads == trainer.threads
        team.clear()
    assert results[1:] == results[:1] * 3


@pytest.mark.sampled
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_any_number_of_steps_in_a_call_gives_the_same_bits(optimizer, threads):
    data = rows_of(np.float32)
    results = [
        trained(model_of(np.float32), OPTIMIZERS[optimizer](), data, threads=threads, chunk=chunk)[1]
        for chunk in (1, 7, 1000, None, None)  # None: the clock determines the steps per native call
    ]
    assert results[1:] == results[:1] * 4


@pytest.mark.slow
def test_large_batches_and_wide_layers(dtype):
    """Sums of several blocks, and products that turn weights over as they go."""
    X, y = np.random.default_rng(3).standard_normal((700, 300)).astype(dtype), np.arange(700) % 20
    results = []
    for threads in (1, 2, 3):
        trainer = fm.Trainer(fm.MLP(300, [530, 270], 20, dtype=dtype, rng=0), fm.CrossEntropyLoss(), fm.Adam(0.01))
        trainer.fit(X, y, batch_size=520, max_steps=3, rng=0, threads=threads)
        results.append(b"".join(array.tobytes() for array in trainer.model.state_dict().values()))
    assert results[1:] == results[:1] * 2


def test_blocks_of_the_batch_for_caches_of_any_size(dtype, monkeypatch):
    data, results, blocks = rows_of(dtype, 300), [], []
    for size in (32, 40, 48):
        monkeypatch.setattr(cpu_plan, "l1_bytes", lambda size=size: size << 10)
        trainer = fm.Trainer(model_of(dtype), fm.CrossEntropyLoss(), fm.Adam(0.01))
        trainer.fit(*data, batch_size=300, max_steps=3, rng=0, threads=2)
        blocks.append(int(trainer._session.engine._plan.run_params[kernels.BATCH_BLOCK]))
        results.append(b"".join(array.tobytes() for array in trainer.model.state_dict().values()))
    assert results[1:] == results[:1] * 2 and blocks == sorted(set(blocks))


@pytest.mark.parametrize("batch", [1, 2, 3, 5])
def test_threads_without_rows_of_their_own(batch):
    """A batch of fewer rows than threads."""
    X, y = rows_of(np.float32, 2 * batch)
    results = []
    for threads in (1, 4):
        trainer = fm.Trainer(model_of(np.float32), fm.CrossEntropyLoss(), fm.Adam(0.01))
        trainer.fit(X, y, batch_size=batch, max_steps=30, rng=0, threads=threads)
        results.append(b"".join(array.tobytes() for array in trainer.model.state_dict().values()))
    assert results[0] == results[1]


def test_more_threads_than_weights():
    X, y = rows_of(np.float32)
    results = []
    for threads in (1, 7):
        trainer = fm.Trainer(fm.Linear(21, 1, bias=False, rng=0), fm.MSELoss(), fm.Adam(0.01))
        trainer.fit(X, y / 5, batch_size=BATCH, max_steps=30, rng=0, threads=threads)
        results.append(trainer.model.params["weight"].tobytes())
    assert results[0] == results[1]


def denormal_case(dtype):
    """Weights, biases, inputs and so everything else around the smallest numbers that there are."""
    small = {"float32": 1e-40, "float64": 1e-312}[str(np.dtype(dtype))]
    X, y = rows_of(dtype)
    generator = np.random.default_rng(1)
    model = fm.MLP(21, [33, 18], 5, "tanh", dtype=dtype, rng=0)
    for _, array in model.named_parameters():
        array[...] = generator.standard_normal(array.shape) * small
    X *= dtype(small)
    X[::3] = 0
    X[1::3] /= dtype(small)  # undo the scaling in some rows
    return model, (X, y)


def keeps_denormals():
    half, small = np.float32(0.5), (np.float32(1e-40), np.float64(1e-310))
    return all(number * half != 0 for number in small)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_denormal_numbers_do_not_depend_on_threads(optimizer, dtype):
    results = []
    for threads in (1, 2, 3, 4):
        model, data = denormal_case(dtype.type)
        assert 0 < np.abs(data[0][data[0] != 0]).min() < np.finfo(dtype).tiny
        results.append(trained(model, OPTIMIZERS[optimizer](), data, threads=threads, steps=200)[1])
        assert keeps_denormals()
    assert results[1:] == results[:1] * 3


def test_the_callers_float_mode_stays():
    class Look:
        def on_progress(self, trainer):
            modes.append(keeps_denormals())

        on_step = on_evaluation = lambda self, *args: modes.append(keeps_denormals())

    modes = [keeps_denormals()]
    X, y = rows_of(np.float32)
    for rate, threads in ((0.1, 1), (0.1, 2), (1e30, 1), (1e30, 2)):
        trainer = fm.Trainer(fm.MLP(21, [8], 5, rng=0), fm.CrossEntropyLoss(), fm.SGD(rate))
        trainer.step(X, y)
        modes.append(keeps_denormals())
        try:
            trainer.fit(X, y, validation=(X, y), max_steps=5, eval_every=2, threads=threads, callbacks=[Look()])
            assert rate < 1
        except fm.DivergenceError:
            assert rate > 1
        modes.append(keeps_denormals())
    assert len(modes) > 20 and all(modes)


def test_evaluations_do_not_depend_on_threads(dtype, team):
    data = rows_of(dtype, 700)
    results = []
    for threads in (1, 2, 3, 4):
        trainer = fm.Trainer(model_of(dtype), fm.CrossEntropyLoss(), fm.SGD(0.0))
        history = trainer.fit(*data, validation=data, max_steps=1, rng=0, threads=threads)
        assert len({call[2] for call in team}) == threads
        team.clear()
        session = trainer._open_session(threads, 32)
        outputs = [session.infer(data[0][:rows]).tobytes() for rows in (1, 2, 95, 96, 97, 500)]
        session.close()
        last = history.last
        measured = (last["val_loss"], last["val_accuracy"], trainer.evaluate(*data), trainer.predict(data[0]).tobytes())
        results.append((outputs, measured))
        whole = session.infer(data[0][:500])
        assert all(whole[:rows].tobytes() == bits for rows, bits in zip((1, 2, 95, 96, 97), outputs, strict=False))
        session.close()
    assert results[1:] == results[:1] * 3


@pytest.mark.sampled
@pytest.mark.parametrize("threads", [2, 3, 4])
def test_no_thread_takes_the_room_of_one_that_is_a_block_behind(threads, monkeypatch):
    """The last block of rows is short, and no thread waits for it; here the first thread is late."""
    train, late = kernels.train, [0.0]

    def spy(thread, *rest):
        if thread == 0:
            time.sleep(late[0])
        return train(thread, *rest)

    monkeypatch.setattr(kernels, "train", spy)
    model = fm.MLP(21, [512, 512, 512], 5, "gelu", rng=0)
    session = fm.Trainer(model, fm.CrossEntropyLoss(), fm.SGD())._open_session(threads, 1)
    X, _ = rows_of(np.float32, 96 * threads + 90)
    ref = np.concatenate([session.infer(X[row : row + 1]) for row in range(len(X))])
    for turn in range(40):
        late[0] = turn * 5e-5
        assert session.infer(X).tobytes() == ref.tobytes()
    session.close()


def test_more_rows_in_a_batch_leave_a_rows_outputs_as_they_are(dtype):
    """So that where a thread's rows begin, and how high a tile is, cannot matter."""
    X, _ = rows_of(dtype, 300)
    model = model_of(dtype)
    session = fm.Trainer(model, fm.CrossEntropyLoss(), fm.SGD())._open_session(1, 1)
    one_by_one = np.concatenate([session.infer(X[row : row + 1]) for row in range(len(X))])
    assert session.infer(X).tobytes() == one_by_one.tobytes()
