"""EarlyStopping: end of the run, and restored weights."""

from __future__ import annotations

import numpy as np
import pytest

import fastmlp as fm
from fastmlp.callbacks.early_stopping import BestTracker


def noisy(rows=60):
    """Rows whose labels are chance: a net learns them by heart, and gets worse on others."""
    rng = np.random.default_rng(3)
    return rng.normal(size=(rows, 8)).astype(np.float32), rng.integers(0, 2, rows)


def fitted(callbacks, epochs=60, validation=True, **kwargs):
    X, y = noisy()
    trainer = fm.Trainer(fm.MLP(8, [32], 2, rng=0), fm.CrossEntropyLoss(), fm.Adam(lr=0.02))
    states = {}

    class Remember:
        def on_evaluation(self, trainer, record):
            states[trainer.steps] = trainer.model.state_dict()

    held_out = (X[40:], y[40:]) if validation else None
    trainer.fit(
        X[:40], y[:40], validation=held_out, epochs=epochs, batch_size=10, rng=0, callbacks=[*callbacks, Remember()],
        **kwargs,
    )  # fmt: skip
    return trainer, states


def assert_has(model, state):
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, state[name], err_msg=name)


@pytest.mark.parametrize("backend", ["numpy", "numba"])
def test_it_ends_the_run_and_keeps_the_best(backend):
    with fm.use_backend(backend):
        stopping = fm.EarlyStopping(patience=5)
        trainer, states = fitted([stopping])
    losses = trainer.history["val_loss"]
    best = int(np.argmin(losses))
    assert stopping.stopped and len(losses) == best + 1 + 5 < 60
    assert stopping.best == losses[best] and stopping.best_step == trainer.history["step"][best] == trainer.restored
    assert_has(trainer.model, states[stopping.best_step])
    X, y = noisy()
    assert trainer.evaluate(X[40:], y[40:])["loss"] == pytest.approx(losses[best], rel=1e-5)
    trainer.fit(X, y, epochs=1)  # continues from the restored weights
    assert trainer.restored is None


def test_without_restoring():
    stopping = fm.EarlyStopping(3, restore_best=False)
    trainer, states = fitted([stopping])
    assert stopping.stopped and trainer.restored is None
    assert_has(trainer.model, states[trainer.steps])


def test_a_run_that_takes_all_its_steps_has_the_best_weights_too():
    stopping = fm.EarlyStopping(1000)
    trainer, states = fitted([stopping], epochs=40)
    assert not stopping.stopped and trainer.restored == stopping.best_step < trainer.steps
    assert_has(trainer.model, states[stopping.best_step])


@pytest.mark.parametrize("monitor", ["val_accuracy", "train_loss", None])
def test_each_measure(monitor):
    stopping = fm.EarlyStopping(4, monitor=monitor)
    trainer, _ = fitted([stopping], validation=monitor == "val_accuracy")
    values = trainer.history["train_loss" if monitor is None else monitor]
    best = int(np.argmax(values) if monitor == "val_accuracy" else np.argmin(values))
    assert stopping.best == values[best] and stopping.best_step == trainer.history["step"][best]


def test_small_gains_do_not_count():
    stopping = fm.EarlyStopping(2, min_delta=100.0)
    trainer, _ = fitted([stopping])
    assert len(trainer.history) == 3 and stopping.best == trainer.history["val_loss"][0]


def test_after_an_error_the_weights_are_the_last_ones():
    class Fails:
        def on_evaluation(self, trainer, record):
            if len(trainer.history) == 8:
                raise KeyboardInterrupt

    stopping = fm.EarlyStopping(50)
    with pytest.raises(KeyboardInterrupt):
        fitted([stopping, Fails()])
    assert stopping.best is not None and not stopping.stopped


def test_what_is_saved_are_the_best_weights(tmp_path):
    path = tmp_path / "model.safetensors"
    trainer, _ = fitted([fm.EarlyStopping(3), fm.SaveModel(path)])
    assert trainer.restored is not None
    assert_has(fm.load_model(path), trainer.model.state_dict())


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"patience": 0}, "patience is 0"),
        ({"min_delta": -1}, "min_delta is -1"),
        ({"monitor": "loss"}, "monitor is 'loss'; expected 'val_loss'"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        fm.EarlyStopping(**arguments)


def test_a_measure_that_is_not_there():
    with pytest.raises(ValueError, match="monitors val_loss, which this fit does not measure"):
        fitted([fm.EarlyStopping(3, monitor="val_loss")], validation=False)


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize("monitor", ["val_loss", "val_accuracy", "train_loss"])
@pytest.mark.parametrize("values", [[NAN] * 5, [NAN, 2, NAN, 1, 3], [2, NAN, 1, NAN, NAN], [INF, 3, -INF, NAN, INF]])
def test_nan_is_never_the_best(monitor, values):
    """Wherever it comes: as many evaluations without a better value as those that have one less."""
    sign = 1 if monitor == "val_accuracy" else -1
    watch, found, best = BestTracker(monitor), [], None
    for step, value in enumerate(values):
        better = not np.isnan(value) and (best is None or sign * value > sign * best)
        best = value if better else best
        found.append(watch.improves(step, {"val_loss": 0.0, monitor: value}, "the test") == better)
    assert all(found) and watch.best == best


@pytest.mark.parametrize("first", [0, 2])
def test_a_measure_that_becomes_nan_ends_the_run(first):
    """EarlyStopping and ModelCheckpoint: a user's callback, or a file, may bring a record that no fit has."""

    class Trainer:
        def __init__(self):
            self.steps, self.stopped = 0, False
            self.model = fm.MLP(2, [], 1, rng=0)

        def stop(self):
            self.stopped = True

    trainer, stopping = Trainer(), fm.EarlyStopping(3)
    stopping.on_fit_begin(trainer)
    while not trainer.stopped:
        trainer.steps += 1
        stopping.on_evaluation(trainer, {"val_loss": 1 / trainer.steps if trainer.steps <= first else NAN})
    assert trainer.steps == first + 3 and stopping.best_step == (first or None)


def test_a_plateau_of_nan_lowers_the_rate():
    schedule = fm.ReduceOnPlateau(1.0, patience=1)
    rates = []
    for value in (NAN, 1.0, NAN, NAN, 0.5, NAN):
        schedule.update(value)
        rates.append(schedule(0))
    assert rates == [1.0, 1.0, 1.0, 0.1, 0.1, 0.1] and schedule.state_dict()["best"] == 0.5


def test_a_mean_loss_that_overflows_is_divergence():
    """Each step's loss is finite, but their sum is not."""
    X, y = np.zeros((8, 2)), np.full((8, 1), 1.2e154)
    trainer = fm.Trainer(fm.MLP(2, [], 1, init="zeros", dtype=np.float64, rng=0), fm.MSELoss(), fm.SGD(0.0))
    assert np.isfinite(trainer.evaluate(X[:1], y[:1])["loss"])
    with pytest.raises(fm.DivergenceError, match="after step 4 the mean of the losses is inf"):
        trainer.fit(X, y, batch_size=2, epochs=1)
