"""Metrics: computed in float64 against unrounded targets."""

from __future__ import annotations

import numpy as np
import pytest
from checks import assert_matches
from sklearn.metrics import r2_score

import fastmlp as fm

N = 300


def rows_of(outputs):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(N, 3))
    return X, X[:, :outputs] + 0.1 * rng.normal(size=(N, outputs))


def far(answers):
    """A linear model (outputs far from 0) whose answers are the same for every row."""
    model = fm.MLP(3, [], len(answers), init="zeros", rng=0)
    model.load_state_dict({"0.weight": np.zeros((len(answers), 3)), "0.bias": answers})
    return model


# Transformations of the targets; float32 cannot distinguish most of the results.
FAR = {
    "timestamps": lambda y: 1.7e9 + y,
    "coordinates": lambda y: 5e6 + 0.01 * y,
    "numbers": lambda y: (2**40 + 100 * y).astype(np.int64),
    "unsigned": lambda y: (2**63 + 10**11 * y).astype(np.uint64),
    "long": lambda y: (1e8 + y).astype(np.longdouble),
}


@pytest.mark.parametrize("outputs", [1, 2])
@pytest.mark.parametrize("kind", FAR)
def test_targets_that_float32_would_round(kind, outputs, backend):
    X, y = rows_of(outputs)
    y = FAR[kind](y)
    exact = y.astype(np.float64)
    model = far(exact.mean(axis=0))
    answers = model.backend.to_numpy(model.infer(X)).astype(np.float64)
    weight = np.random.default_rng(1).uniform(0, 2, N) * (np.arange(N) % 3 > 0)
    trainer = fm.Trainer(model, fm.MSELoss(), fm.SGD(0.0))
    for s in (None, weight):
        comp = trainer.evaluate(X, y, s, batch_size=77)
        loss = float(np.average(((answers - exact) ** 2).mean(axis=1), weights=s))
        assert_matches(loss, comp["loss"], 1e-12 * loss)
        ref = r2_score(exact, answers, sample_weight=s)
        assert ref < 0.1
        assert_matches(ref, comp["r2"], 1e-9 * max(1, abs(ref)))
    history = trainer.fit(X, y, validation=(X, y, weight), epochs=1, rng=0)
    assert history.last["val_loss"] == trainer.evaluate(X, y, weight)["loss"]


@pytest.mark.parametrize(
    "loss", [fm.L1Loss(), fm.HuberLoss(), fm.LogCoshLoss(), fm.QuantileLoss(0.2)], ids=lambda loss: type(loss).__name__
)
def test_every_loss_of_numbers(loss):
    X, y = rows_of(1)
    y = 1.7e9 + y
    model = far([1.7e9])
    loss = type(loss)(**{name: value for name, value in loss.config().items() if name != "type"})
    ref = loss.forward(model.infer(X).astype(np.float64), y)
    assert_matches(ref, fm.Trainer(model, loss, fm.SGD()).evaluate(X, y)["loss"], 1e-12 * ref)


def test_targets_from_0_to_1(backend):
    """Soft ones too; the threshold of binary tasks is met by what was given, not by what it is rounded to."""
    X, _ = rows_of(1)
    below = np.nextafter(0.5, 0)  # rounds to 0.5 in float32
    trainer = fm.Trainer(far([-1.0]), fm.BCEWithLogitsLoss(), fm.SGD())
    comp = trainer.evaluate(X, np.full(N, below))
    assert comp["accuracy"] == 1.0
    assert_matches(below * np.log1p(np.exp(1)) + (1 - below) * np.log1p(np.exp(-1)), comp["loss"], 1e-12)
    soft = np.tile([0.3, below, 0.5, 0.1], (N, 1))
    trainer = fm.Trainer(far([0.0, 0.0, 1.0, 0.0]), fm.CrossEntropyLoss(), fm.SGD())
    comp = trainer.evaluate(X, soft)
    assert comp["accuracy"] == 1.0
    log_p = np.array([0, 0, 1, 0]) - np.log(3 + np.e)
    assert_matches(-(soft * log_p).sum(axis=1).mean(), comp["loss"], 1e-12)


def test_targets_that_float32_holds_are_measured_in_it():
    """The same bits for the same numbers in another dtype."""
    X, _ = rows_of(1)
    y = (X[:, 0] * 100).astype(np.int16)
    trainer = fm.Trainer(fm.MLP(3, [4], 1, rng=0), fm.MSELoss(), fm.SGD())
    ref = trainer.evaluate(X, y.astype(np.float32))
    for dtype in (np.int16, np.int64, np.float64):
        assert trainer.evaluate(X, y.astype(dtype)) == ref


def test_targets_beyond_float32_are_refused_everywhere():
    X, y = rows_of(1)
    y[3] = 1e300
    trainer = fm.Trainer(fm.MLP(3, [4], 1, rng=0), fm.MSELoss(), fm.SGD())
    message = "y is 1e[+]300 at row 3, column 0; expected numbers of float32"
    for call in (trainer.evaluate, trainer.fit, lambda X, y: trainer.fit(X, X[:, :1], validation=(X, y))):
        with pytest.raises(ValueError, match=message):
            call(X, y)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_constant_targets(dtype):
    """Their mean is not one of them by rounding; rows of weight 0 are not looked at."""
    X, _ = rows_of(1)
    y = np.full(N, 0.1, dtype)
    if dtype == np.float64:
        assert np.average(y) != y[0]
    weight = np.ones(N)
    y[7], weight[7] = 5, 0
    model = fm.MLP(3, [], 1, init="zeros", dtype=dtype, rng=0)
    model.load_state_dict({"0.weight": np.zeros((1, 3)), "0.bias": y[:1]})
    trainer = fm.Trainer(model, fm.MSELoss(), fm.SGD())
    assert trainer.evaluate(X, y, weight)["r2"] == 1.0
    model.load_state_dict({"0.weight": np.zeros((1, 3)), "0.bias": [0.2]})
    assert trainer.evaluate(X, y, weight)["r2"] == 0.0
    assert np.isnan(trainer.evaluate(X[:1], y[:1])["r2"])
