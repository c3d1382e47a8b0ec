"""Augmentation in the engine against `fastmlp.training.augmentation`."""

from __future__ import annotations

import contextlib
from functools import partial

import loss_zoo
import numpy as np
import pytest
from same_steps import assert_same_steps
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


def rows_of(count=33, features=9, classes=3, dtype=np.float64):
    generator = np.random.default_rng(0)
    X = generator.integers(0, 10, (count, features)) if dtype == np.uint8 else generator.normal(size=(count, features))
    return X.astype(dtype), generator.integers(0, classes, count)


def model_of(dtype, features=9, outputs=3, **options):
    normalize = fm.Normalize(np.linspace(0, 1, features), np.linspace(1, 3, features), dtype)
    return partial(fm.MLP, features, [11], outputs, "tanh", normalize=normalize, dtype=dtype, rng=0, **options)


KINDS = {
    "flip": lambda shape: [fm.HorizontalFlip(shape)],
    "always": lambda shape: [fm.HorizontalFlip(shape, 1)],
    "never": lambda shape: [fm.HorizontalFlip(shape, 0)],
    "mixup": lambda shape: [fm.Mixup(0.5)],
    "noise": lambda shape: [fm.GaussianNoise(0.2)],
    "all": lambda shape: [fm.HorizontalFlip(shape), fm.Mixup(0.5), fm.GaussianNoise(0.2)],
}


@pytest.mark.slow
@pytest.mark.parametrize("source", [np.uint8, np.float32, np.float64, np.int16])
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind(kind, source, dtype):
    data = rows_of(dtype=source)
    assert_same_steps(model_of(dtype), fm.CrossEntropyLoss, momentum, data, augment=KINDS[kind]((3, 3)), threads=2)


@pytest.mark.slow
@pytest.mark.parametrize("batch", [1, 2, 13])
def test_without_scaling_and_small_batches(batch, dtype):
    model = partial(fm.MLP, 9, [11], 3, "tanh", dropout=0.2, dtype=dtype, rng=0)
    assert_same_steps(model, fm.CrossEntropyLoss, momentum, rows_of(14), augment=KINDS["all"]((9,)), batch=batch)


@pytest.mark.slow
@pytest.mark.parametrize("width", [1, 2, 7, 8, 15, 16, 17, 23, 24, 31, 32, 33, 47, 48, 49, 63, 64, 65, 97])
def test_widths_around_vectors_and_blocks_of_words(width, dtype):
    for shape in ((width,), (width, 1)):
        data = rows_of(features=width, dtype=np.float32)
        assert_same_steps(model_of(dtype, width), fm.CrossEntropyLoss, momentum, data, augment=KINDS["all"](shape))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("shape", "axis"), [((2, 5, 4), -1), ((2, 5, 4), 1), ((2, 5, 4), 0), ((4, 10), 1), ((20, 2), 1)]
)
def test_images(shape, axis, dtype):
    augment = [fm.HorizontalFlip(shape, axis=axis)]
    for source in (np.uint8, np.float32):
        data = rows_of(features=40, dtype=source)
        assert_same_steps(model_of(dtype, 40), fm.CrossEntropyLoss, momentum, data, augment=augment)


@pytest.mark.slow
@pytest.mark.parametrize("weighted", [False, True], ids=["equal", "sample_weight"])
@pytest.mark.parametrize("name", loss_zoo.NAMES)
def test_mixed_targets(name, weighted, dtype):
    generator = np.random.default_rng(1)
    X, y = generator.standard_normal((33, 9)), loss_zoo.targets_of(name, generator, 33)
    weight = generator.uniform(0.1, 2, len(X)) * (np.arange(len(X)) % 5 > 0) if weighted else None
    last = [] if name in loss_zoo.FROM_LOGITS else [fm.Softmax()]
    model = lambda: fm.Sequential(model_of(dtype, outputs=loss_zoo.COLUMNS)(), *last)  # noqa: E731
    loss, optimizer = partial(loss_zoo.make, name), partial(fm.SGD, 0.02, 0.9)
    assert_same_steps(model, loss, optimizer, (X, y), weight=weight, augment=KINDS["all"]((3, 3)))


@pytest.mark.slow
@pytest.mark.parametrize("loss", [fm.MSELoss, fm.BCEWithLogitsLoss])
def test_mixed_numbers_of_one_column(loss, dtype):
    generator = np.random.default_rng(2)
    rows = generator.standard_normal((33, 9)), generator.uniform(0, 1, 33)
    assert_same_steps(model_of(dtype, outputs=1), loss, momentum, rows, augment=KINDS["all"]((3, 3)))


def trained(X, y, **options):
    model = model_of(np.float32, X.shape[1], layer_norm=True)()
    trainer = fm.Trainer(model, fm.CrossEntropyLoss(), fm.Adam(0.01), l2=0.1)
    session = trainer._open_session(options.get("threads", 1), 16)
    session.chunk = options.pop("chunk", None)
    options = {"threads": 1, "batch_size": 16, "max_steps": 60, "rng": 1, "augment": KINDS["all"]((5, 10)), **options}
    trainer.fit(X, y, **options)
    return b"".join(array.tobytes() for array in trainer.model.state_dict().values())


@pytest.mark.slow
def test_same_bits_for_any_threads_and_calls():
    X, y = rows_of(77, 50, dtype=np.float32)
    ref = trained(X, y)
    for options in ({"threads": 2}, {"threads": 3}, {"chunk": 1}, {"chunk": 7}, {"callbacks": [Steps()]}):
        assert trained(X, y, **options) == ref, options
    assert trained(X, y, augment=()) != ref and trained(X, y, rng=2) != ref


class Steps(fm.Callback):
    """Has the trainer come back after each step."""

    def on_step(self, trainer, step, loss):
        pass


@pytest.mark.slow
def test_layouts_and_sparse_rows():
    X, y = rows_of(77, 50, dtype=np.float32)
    X[X < 0.5] = 0
    ref = trained(X, y)
    wide = np.full((80, 60), np.nan, np.float32)
    wide[1:78, 3:53] = X
    for other in (np.asfortranarray(X), wide[1:78, 3:53], sparse.csr_array(X), X.astype(np.float64)):
        assert trained(other, y) == ref


@pytest.mark.slow
def test_from_one_fit_to_the_next():
    X, y = rows_of(40, 9)
    trainer = fm.Trainer(model_of(np.float64)(), fm.CrossEntropyLoss(), fm.SGD(0.1))
    plain = fm.Trainer(model_of(np.float64)(), fm.CrossEntropyLoss(), fm.SGD(0.1))
    for augment in ([fm.GaussianNoise(0.3)], (), [fm.Mixup()], [fm.GaussianNoise(0.5)], ()):
        before = trainer.model.state_dict()
        plain.model.load_state_dict(before)
        trainer.fit(X, y, epochs=1, rng=3, augment=augment)
        plain.fit(X, y, epochs=1, rng=3)
        same = all(
            (array == plain.model.state_dict()[name]).all() for name, array in trainer.model.state_dict().items()
        )
        assert same == (augment == ())


def test_resume(tmp_path):
    X, y = rows_of(77, 50, dtype=np.float32)
    path = tmp_path / "state"

    class Killed(Exception):
        pass

    def kill(trainer, record):
        raise Killed

    ref = trained(X, y, eval_every=7)
    with pytest.raises(Killed):
        trained(X, y, eval_every=7, callbacks=[fm.SaveState(path), kill])
    assert trained(X, y, eval_every=7, callbacks=[fm.SaveState(path)], resume=path) == ref
    with pytest.raises(fm.ResumeError, match="its augment is"):
        trained(X, y, eval_every=7, callbacks=[fm.SaveState(path)], resume=path, augment=[fm.Mixup()])


@pytest.mark.slow
def test_unknown_modules_take_the_other_way():
    """Module by module, with the same seeds: the same to rounding."""

    class Mine(fm.Tanh):
        pass

    X, y = rows_of()
    states = []
    for activation in (fm.Tanh, Mine):
        model = fm.Sequential(
            fm.Linear(9, 8, dtype=np.float64, rng=0), activation(), fm.Linear(8, 3, dtype=np.float64, rng=1)
        )
        trainer = fm.Trainer(model, fm.CrossEntropyLoss(), fm.SGD(0.1))
        slower = pytest.warns(fm.PerformanceWarning, match="the module Mine is not one that the engine knows")
        with slower if activation is Mine else contextlib.nullcontext():
            trainer.fit(X, y, epochs=3, rng=0, augment=KINDS["all"]((3, 3)))
        assert (trainer._session is None) == (activation is Mine)
        states.append(model.state_dict())
    for name, array in states[0].items():
        np.testing.assert_allclose(states[1][name], array, 1e-10, 1e-12)
