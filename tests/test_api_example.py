"""The public API by example, with the expected results."""

# The lines are copied verbatim from the example.
# ruff: noqa: E501, E702

from __future__ import annotations

import copy

import numpy as np
import pytest

import fastmlp as fm


@pytest.fixture(autouse=True)
def the_same_seed_each_time(monkeypatch):
    """`fm.Linear(100, 10)` draws its own."""
    monkeypatch.setattr("secrets.randbits", lambda bits: 20201115)


# fmt: off


def scaled_model(X):
    return fm.Sequential(fm.Normalize.fit(X, kind="standard"), fm.Linear(64, 100, dtype=np.float32, rng=0), fm.ELU(), fm.Linear(100, 10, rng=1))


def trained(X, y, steps=20):
    model = scaled_model(X)
    trainer = fm.Trainer(model, fm.CrossEntropyLoss(), fm.SGD(lr=1e-3, momentum=0.9))
    trainer.fit(X, y, batch_size=200, max_steps=steps, rng=42)
    return model, trainer


@pytest.mark.sampled
def test_the_run(backend):
    X, y, X_test, y_test = fm.load("digits")                      # raw arrays
    assert X.shape == (1437, 64) and X_test.shape == (360, 64) and y.shape == (1437,)
    assert X.dtype == np.uint8 and set(np.unique(y_test)) == set(range(10))

    model = fm.MLP(64, [100], 10, activation="elu", init="normal", rng=42)     # init="normal": std 1e-4
    assert [type(module) for module in model] == [fm.Linear, fm.ELU, fm.Linear]
    assert model[0].params["weight"].std() == pytest.approx(1e-4, rel=0.05) and not model[0].params["bias"].any()

    model = fm.Sequential(fm.Normalize.fit(X, kind="standard"), fm.Linear(64, 100, dtype=np.float32, rng=0), fm.ELU(), fm.Linear(100, 10))
    trainer = fm.Trainer(model, fm.CrossEntropyLoss(), fm.SGD(lr=1e-3, momentum=0.9))
    history = trainer.fit(X, y, validation=(X_test, y_test), batch_size=200, max_steps=1400, eval_every=100, rng=42, threads=2)
    assert history["step"] == list(range(100, 1401, 100)) and history["epoch"][-1] == 175
    assert history["train_loss"][-1] < 0.3 * history["train_loss"][0] and history["val_accuracy"][-1] > 0.93
    assert history["lr"] == [1e-3] * 14

    measured = trainer.evaluate(X_test, y_test)                   # a dict; trainer.predict(X_test), trainer.predict_proba(X_test)
    assert measured == {"loss": history[-1]["val_loss"], "accuracy": history[-1]["val_accuracy"]}
    assert trainer.predict(X_test).shape == (360,) and (trainer.predict(X_test) == y_test).mean() > 0.93
    assert trainer.predict_proba(X_test).shape == (360, 10)
    np.testing.assert_allclose(trainer.predict_proba(X_test).sum(axis=1), 1, rtol=1e-5)

    x_batch, y_batch = X[:50], y[:50]
    loss_value = trainer.step(x_batch, y_batch)                   # one batch: reinforcement learning, online learning
    assert type(loss_value) is float and trainer.step(x_batch, y_batch) < loss_value and trainer.steps == 1402


def test_the_parts(backend, rng, tmp_path, monkeypatch):
    X, y, X_test, y_test = fm.load("digits")
    model, trainer = trained(X, y)
    x, dy, logits, targets = X_test[:7], rng.normal(size=(7, 100)), rng.normal(size=(7, 10)), y_test[:7]
    with fm.use_backend("numpy"):                                 # the reference; fm.set_backend("numba") is the default
        layer = fm.Linear(64, 100)
        y_out = layer.forward(x); dx = layer.backward(dy)         # layer.params["weight"] (O, I), layer.grads["bias"] (O,)
        loss = fm.CrossEntropyLoss(); value = loss.forward(logits, targets); dlogits = loss.backward(logits, targets)
        before = model.state_dict()
        model.backward(loss.backward(model.forward(x), targets))  # the engine of `fit` leaves no gradients behind
        fm.SGD(lr=1e-3).step(model)                               # applies layer.grads
    assert layer.backend_name == loss.backend_name == "numpy" and model.backend_name == backend
    assert y_out.shape == (7, 100) and dx.shape == (7, 64) and y_out.dtype == dx.dtype == np.float32
    assert layer.params["weight"].shape == layer.grads["weight"].shape == (100, 64)
    assert layer.params["bias"].shape == layer.grads["bias"].shape == (100,)
    np.testing.assert_allclose(layer.grads["bias"], dy.sum(axis=0), rtol=1e-5, atol=1e-5)
    assert type(value) is float and dlogits.shape == (7, 10)
    np.testing.assert_allclose(dlogits.sum(axis=1), 0, atol=1e-15)
    for name, gradient in model.named_gradients():
        stepped = before[name] - np.float32(1e-3) * gradient
        np.testing.assert_allclose(model.state_dict()[name], stepped, rtol=1e-6, atol=1e-7)
    weight = layer.params["weight"].copy()
    fm.SGD(lr=1e-3).step(layer)
    assert (layer.params["weight"] != weight).any()

    monkeypatch.chdir(tmp_path)
    state = model.state_dict(); model.load_state_dict(state); fm.save(model, "m.safetensors"); again = fm.load_model("m.safetensors")
    assert list(state) == ["0.mean", "0.scale", "1.weight", "1.bias", "3.weight", "3.bias"]
    assert repr(again) == repr(model) and again.task == "classification" and again.dtype == np.float32
    np.testing.assert_array_equal(again.infer(X_test), model.infer(X_test))

    report = fm.check_gradients(model, loss, x, targets)
    assert report.passed and report.max_error <= 1e-6 and [a.name for a in report.arrays][-2:] == ["x", "directions"]
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, state[name])
    assert model.dtype == np.float32

# fmt: on


def test_fit_again_continues_with_the_state_of_the_optimizer(backend):
    X, y, _, _ = fm.load("digits")
    model = scaled_model(X)
    runs = []
    for parts in ([24], [10, 14], [10, "fresh", 14]):
        trainer = fm.Trainer(copy.deepcopy(model), fm.CrossEntropyLoss(), fm.SGD(lr=1e-3, momentum=0.9))
        for part in parts:
            if part == "fresh":
                trainer.optimizer = fm.SGD(lr=1e-3, momentum=0.9)
            else:
                trainer.fit(X, y, batch_size=200, max_steps=part, rng=42)
        runs.append(trainer.model.state_dict()["1.weight"])
    np.testing.assert_array_equal(runs[0], runs[1])
    assert (runs[0] != runs[2]).any()


def test_a_short_last_batch_is_used_unless_dropped(backend):
    X, y, _, _ = fm.load("digits")
    for drop_last, steps in ((False, 8), (True, 7)):
        trainer = fm.Trainer(scaled_model(X), fm.CrossEntropyLoss(), fm.SGD())
        assert trainer.fit(X, y, batch_size=200, epochs=1, drop_last=drop_last)["step"] == [steps]


def test_epochs_and_max_steps_exclude_each_other(backend):
    X, y, _, _ = fm.load("digits")
    trainer = fm.Trainer(scaled_model(X), fm.CrossEntropyLoss(), fm.SGD())
    with pytest.raises(ValueError, match="epochs=1 and max_steps=3; expected one of them"):
        trainer.fit(X, y, epochs=1, max_steps=3)
    assert trainer.steps == 0


def test_sample_weights_count_in_fit_and_in_evaluate(backend):
    X, y, X_test, y_test = fm.load("digits")
    trainer = trained(X, y)[1]
    only = (y_test == 3).astype(float)
    weighted = trainer.evaluate(X_test, y_test, sample_weight=only)
    assert weighted == pytest.approx(trainer.evaluate(X_test[y_test == 3], y_test[y_test == 3]), rel=1e-6)
    before = (trainer.predict(X_test) == 3).mean()
    trainer.fit(X, y, sample_weight=(y == 3).astype(float), epochs=20, rng=0)
    # The second fit has only threes with positive weight.
    assert trainer.evaluate(X_test, y_test, sample_weight=only)["loss"] < 0.5 * weighted["loss"]
    assert (trainer.predict(X_test) == 3).mean() > 2 * before


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64, np.int64])
def test_inputs_are_cast_to_the_model_s_dtype(backend, kind):
    X, y, X_test, _ = fm.load("digits")
    model = trained(X, y)[0]
    assert model.forward(X_test.astype(kind)).dtype == np.float32
    np.testing.assert_array_equal(model.forward(X_test.astype(kind)), model.forward(X_test))
