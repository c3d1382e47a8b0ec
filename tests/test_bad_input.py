"""Invalid arguments of training: one error each, with the value seen and the value expected."""

from __future__ import annotations

import numpy as np
import pytest

import fastmlp as fm


def good():
    generator = np.random.default_rng(0)
    return generator.standard_normal((12, 4)).astype(np.float32), generator.integers(0, 3, 12)


def make_trainer(loss=None, outputs=3):
    return fm.Trainer(fm.MLP(4, [5], outputs, rng=0), loss or fm.CrossEntropyLoss(), fm.SGD())


def spoilt(row, column, value, dtype=np.float32):
    X = good()[0].astype(dtype)
    X[row, column] = value
    return X


X, Y = good()

BAD_X = {
    "one dimension": (X[0], r"X has shape \(4,\); expected \(N, 4\)"),
    "three dimensions": (X.reshape(3, 4, 4), r"X has shape \(3, 4, 4\); expected \(N, 4\)"),
    "width": (X[:, :3], r"X has shape \(12, 3\); expected \(N, 4\)"),
    "nan": (spoilt(7, 2, np.nan), "X is nan at row 7, column 2; expected finite numbers"),
    "inf": (spoilt(3, 0, -np.inf), "X is -inf at row 3, column 0"),
    "beyond float32": (
        spoilt(5, 1, -1e300, np.float64),
        "X is -1e.300 at row 5, column 1; expected numbers of float32",
    ),
    "objects": (X.astype(object), "X has dtype object; expected bools, integers or floats"),
    "text": (X.astype(str), "X has dtype <U"),
    "complex": (X.astype(complex), "X has dtype complex128"),
    "ragged": ([[1.0, 2.0, 3.0, 4.0], [1.0]], "X is not a rectangular array"),
    "masked": (np.ma.masked_less(X, 0), "masked"),
    "none": (None, "X has dtype object"),
}

BAD_Y = {
    "length": (Y[:-1], r"expected targets of shape \(12,\) or \(12, 3\).*got \(11,\)"),
    "shape": (np.zeros((12, 4)), r"got \(12, 4\)"),
    "too large": (np.where(np.arange(12) == 5, 3, Y), r"from 0 to 2 \(C = 3\), got 3 at row 5"),
    "negative": (np.where(np.arange(12) == 4, -1, Y), r"from 0 to 2 \(C = 3\), got -1 at row 4"),
    "floats": (Y.astype(float), "expected integer class indices, got float64"),
    "text": (np.array(list("abcabcabcabc")), "dtype <U1; expected bools, integers or floats"),
    "objects": (Y.astype(object), "dtype object"),
    "soft nan": (np.full((12, 3), np.nan), "got nan at row 0, column 0"),
    "soft negative": (np.eye(3)[Y] - 0.5, "at least 0, got -0.5"),
}

BAD_WEIGHT = {
    "length": (np.ones(11), r"sample_weight has shape \(11,\); expected \(12,\)"),
    "negative": (np.linspace(1, -1, 12), "sample_weight is -"),
    "nan": (np.full(12, np.nan), "sample_weight is nan at index 0"),
    "zeros": (np.zeros(12), "sample_weight sums to 0"),
}


@pytest.mark.parametrize("X_bad, message", BAD_X.values(), ids=BAD_X)
def test_bad_examples(X_bad, message):
    trainer = make_trainer()
    for call in (
        lambda: trainer.fit(X_bad, Y),
        lambda: trainer.step(X_bad, Y),
        lambda: trainer.evaluate(X_bad, Y),
        lambda: trainer.predict(X_bad),
        lambda: trainer.predict_proba(X_bad),
        lambda: trainer.fit(X, Y, validation=(X_bad, Y)),
    ):
        with pytest.raises(ValueError, match=message):
            call()
    assert trainer.steps == 0


@pytest.mark.parametrize("y_bad, message", BAD_Y.values(), ids=BAD_Y)
def test_bad_targets(y_bad, message):
    trainer = make_trainer()
    for call in (
        lambda: trainer.fit(X, y_bad),
        lambda: trainer.step(X, y_bad),
        lambda: trainer.evaluate(X, y_bad),
        lambda: trainer.fit(X, Y, validation=(X, y_bad)),
    ):
        with pytest.raises(ValueError, match=message):
            call()
    assert trainer.steps == 0


@pytest.mark.parametrize("weight, message", BAD_WEIGHT.values(), ids=BAD_WEIGHT)
def test_bad_weights(weight, message):
    trainer = make_trainer()
    for call in (
        lambda: trainer.fit(X, Y, sample_weight=weight),
        lambda: trainer.step(X, Y, weight),
        lambda: trainer.evaluate(X, Y, weight),
        lambda: trainer.fit(X, Y, validation=(X, Y, weight)),
    ):
        with pytest.raises(ValueError, match=message):
            call()
    assert trainer.steps == 0


def test_targets_are_never_broadcast():
    trainer = make_trainer(fm.MSELoss(), outputs=2)
    for y_bad in (np.zeros(12), np.zeros((12, 1)), np.zeros((1, 2)), np.zeros((12, 2, 1))):
        with pytest.raises(ValueError, match=r"outputs of shape \(12, 2\)"):
            trainer.fit(X, y_bad)
    with pytest.raises(ValueError, match="got inf at row 2, column 0"):
        make_trainer(fm.MSELoss(), outputs=1).fit(X, np.where(np.arange(12) == 2, np.inf, 0.0))
    with pytest.raises(ValueError, match=r"from 0 to 1, got 2 at row 0"):
        make_trainer(fm.BCEWithLogitsLoss(), outputs=1).fit(X, np.full(12, 2))


def test_empty_sets():
    trainer = make_trainer()
    for call in (trainer.fit, trainer.step, trainer.evaluate):
        with pytest.raises(ValueError, match="X has no rows; expected at least one"):
            call(X[:0], Y[:0])
    assert trainer.predict(X[:0]).shape == (0,) and trainer.predict_proba(X[:0]).shape == (0, 3)


OPTIONS = {
    "both lengths": ({"epochs": 1, "max_steps": 1}, "epochs=1 and max_steps=1; expected one of them"),
    "no epochs": ({"epochs": 0}, "epochs is 0; expected an integer of at least 1"),
    "half an epoch": ({"epochs": 0.5}, "epochs is 0.5"),
    "steps": ({"max_steps": -3}, "max_steps is -3"),
    "batch": ({"batch_size": 0}, "batch_size is 0"),
    "batch of True": ({"batch_size": True}, "batch_size is True"),
    "eval_every": ({"eval_every": 0}, "eval_every is 0"),
    "threads": ({"threads": 0}, "threads is 0"),
    "threads of 1.5": ({"threads": 1.5}, "threads is 1.5"),
    "rng": ({"rng": -1}, "rng is -1"),
    "validation": ({"validation": X}, "validation is not a pair"),
    "validation of one": ({"validation": (X,)}, "validation is not a pair"),
    "nothing left": ({"batch_size": 13, "drop_last": True}, "no batch: the set has 12 rows; expected at least 13"),
}


@pytest.mark.parametrize("options, message", OPTIONS.values(), ids=OPTIONS)
def test_bad_options(options, message):
    trainer = make_trainer()
    with pytest.raises(ValueError, match=message):
        trainer.fit(X, Y, **options)
    assert trainer.steps == 0


def test_wrong_kinds_of_parts():
    model, loss, optimizer = fm.MLP(4, [], 3), fm.CrossEntropyLoss(), fm.SGD()
    for arguments, expected in (
        ((loss, model, optimizer), "expected a Module, got CrossEntropyLoss"),
        ((model, optimizer, loss), "expected a Loss"),
        ((model, loss, 1e-3), "expected an Optimizer, got 0.001"),
        ((model, "mse", optimizer), "expected a Loss, got 'mse'"),
    ):
        with pytest.raises(ValueError, match=expected):
            fm.Trainer(*arguments)
