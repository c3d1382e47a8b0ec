"""Fits over ranks, which are threads here: the bits do not depend on the number of ranks, and the modules agree."""

import hashlib

import numpy as np
import pytest
from checks import assert_matches
from scipy import sparse

import fastmlp as fm
from fastmlp._common.group import Group
from fastmlp.training.augmentation import GaussianNoise, HorizontalFlip, Mixup

from .launch import on_threads

ROWS, WIDTH, CLASSES = 150, 24, 3


def data(targets="labels"):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(ROWS, WIDTH))
    y = (X @ rng.normal(size=(WIDTH, CLASSES))).argmax(axis=1)
    return X, {"labels": y, "numbers": X[:, :2] * X[:, 2:4]}[targets]


def plain(dtype):
    return fm.MLP(WIDTH, [20, 12], CLASSES, dtype=dtype, rng=0)


def rich(dtype):
    norm = fm.Normalize(np.full(WIDTH, 0.1), np.full(WIDTH, 2.0), dtype)
    return fm.MLP(WIDTH, [20, 12], CLASSES, "gelu", dropout=0.3, layer_norm=True, normalize=norm, dtype=dtype, rng=0)


def scaled(dtype):
    layers = [fm.Linear(WIDTH, 20, dtype=dtype, rng=0), fm.Scale(20, dtype=dtype), fm.Tanh()]
    return fm.Sequential(*layers, fm.Linear(20, CLASSES, dtype=dtype, rng=1))


def binned(dtype):
    first = fm.BinnedLinear(WIDTH - 3, [4, 3], 20, levels=[2], dtype=dtype, rng=0)
    return fm.Sequential(first, fm.ReLU(), fm.Linear(20, CLASSES, dtype=dtype, rng=1))


def regression(dtype):
    return fm.MLP(WIDTH, [10], 2, dtype=dtype, rng=0)


WEIGHTS = np.random.default_rng(1).uniform(0, 2, ROWS) * (np.arange(ROWS) % 7 > 0)
CLASSWISE = fm.CrossEntropyLoss(class_weight=[1.0, 0.0, 3.0], label_smoothing=0.1)
# model, loss, optimizer, arguments of the trainer, arguments of fit; batches of 32 rows leave one of 22 at the end
CASES = {
    "dense": (plain, fm.CrossEntropyLoss, lambda: fm.Adam(0.01), {}, {}),
    "layer norm, dropout": (rich, fm.CrossEntropyLoss, lambda: fm.SGD(0.1, momentum=0.9), {}, {}),
    "binned": (binned, fm.CrossEntropyLoss, lambda: fm.Adam(0.01, clip_norm=0.5), {"l2": 0.1}, {"accumulate": 2}),
    "parameter groups": (
        plain, fm.CrossEntropyLoss,
        lambda: fm.Adam(0.01, param_groups=[{"params": "*.bias", "lr_scale": 3.0}, {"params": "0.weight", "lr": 0.0}]),
        {}, {"accumulate": 2},
    ),
    "scale": (scaled, fm.CrossEntropyLoss, lambda: fm.Adam(0.01), {}, {}),
    "l2, clipping, average": (
        plain, fm.CrossEntropyLoss, lambda: fm.Adam(0.01, clip_norm=0.5, clip_value=0.1), {"l2": 0.1, "average": 0.9},
        {},
    ),
    "accumulate": (plain, fm.CrossEntropyLoss, lambda: fm.Adam(0.01, clip_norm=0.5), {"l2": 0.1}, {"accumulate": 3}),
    "weights": (plain, lambda: CLASSWISE, lambda: fm.Adam(0.01), {"l2": 0.1}, {"sample_weight": WEIGHTS}),
    "mixup, flip, noise": (
        rich, fm.CrossEntropyLoss, lambda: fm.Adam(0.01), {},
        {"augment": [HorizontalFlip((1, 4, 6)), Mixup(0.5), GaussianNoise(0.1)], "sample_weight": WEIGHTS},
    ),
    "accumulate, dropout, mixup": (
        rich, fm.CrossEntropyLoss, lambda: fm.Adam(0.01), {}, {"accumulate": 2, "augment": Mixup(0.5)},
    ),
    "regression": (regression, fm.HuberLoss, lambda: fm.SGD(0.05), {}, {"shuffle": False}),
}  # fmt: skip


def fitted(case, group, dtype="float32", backend="numba", steps=8, **more):
    """Return the trainer of a case after some steps."""
    make, loss, optimizer, own, options = CASES[case]
    targets = "numbers" if make is regression else "labels"
    X, y = data(targets)
    with fm.use_backend(backend):
        trainer = fm.Trainer(make(dtype), loss(), optimizer(), **own)
    options = {"batch_size": 32, "max_steps": steps, "rng": 3, "threads": 1, "eval_every": 5, **options, **more}
    trainer.fit(X, y, validation=(X[:70], y[:70]), group=group, **options)
    return trainer


def bits(trainer):
    state = trainer.optimizer.state_dict()["state"]
    arrays = [
        *trainer.model.state_dict().values(),
        *(state[name][kind] for name in state for kind in sorted(state[name])),
    ]
    history = [
        [record[key] for key in ("step", "train_loss", "val_loss", "val_accuracy")] for record in trainer.history
    ]
    return hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest(), history


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", CASES)
def test_same_bits_on_any_ranks_and_threads(case, dtype):
    ref = bits(fitted(case, Group(), dtype, pieces=8))
    assert bits(fitted(case, None, dtype, pieces=8, threads=2)) == ref
    for ranks, threads in ((2, 1), (2, 2), (4, 1), (8, 1)):
        options = {"dtype": dtype, "pieces": 8, "threads": threads}
        found, errors = on_threads(ranks, lambda group, options=options: bits(fitted(case, group, **options)))
        assert not errors, errors
        assert found == [ref] * ranks


@pytest.mark.parametrize("case", CASES)
def test_modules_agree_and_have_the_same_bits_on_any_ranks(case):
    engine = fitted(case, Group(), "float64", pieces=8)
    ref = fitted(case, None, "float64", "numpy", pieces=8)
    for (name, comp), (_, array) in zip(engine.model.named_parameters(), ref.model.named_parameters()):
        assert_matches(array, comp, 1e-10, name)
    found, errors = on_threads(2, lambda group: bits(fitted(case, group, "float64", "numpy", pieces=8)))
    assert not errors, errors
    assert found == [bits(ref)] * 2


@pytest.mark.parametrize("case", CASES)
def test_pieces_are_close_to_one_piece(case):
    ref, comp = fitted(case, None, "float64"), fitted(case, None, "float64", pieces=8)
    for (name, array), (_, other) in zip(ref.model.named_parameters(), comp.model.named_parameters()):
        assert_matches(array, other, 1e-8, name)


@pytest.mark.parametrize("convert", [sparse.csr_array, lambda X: X.astype(np.float16)], ids=["sparse", "float16"])
def test_features_that_are_converted(convert):
    def work(group):
        X, y = data()
        trainer = fm.Trainer(plain("float32"), fm.CrossEntropyLoss(), fm.Adam(0.01))
        trainer.fit(convert(X), y, batch_size=32, epochs=2, rng=0, threads=1, pieces=4, group=group)
        return bits(trainer)

    found, errors = on_threads(4, work)
    assert not errors and found == [work(None)] * 4


def test_pieces_more_than_rows():
    ref = bits(fitted("dense", None, pieces=64))
    found, errors = on_threads(4, lambda group: bits(fitted("dense", group, pieces=64)))
    assert not errors and found == [ref] * 4


def test_pieces_off_take_any_number_of_ranks():
    found, errors = on_threads(3, lambda group: bits(fitted("dense", group, pieces="off")))
    assert not errors and found[0] == found[1] == found[2]
    assert bits(fitted("dense", Group(), pieces="off")) == bits(fitted("dense", None))  # one piece is the one chain
