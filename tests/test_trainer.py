"""The training loop: metrics, continuation, and ends of a run."""

from __future__ import annotations

import copy
import itertools
import math
import os
import pickle
import signal

import numpy as np
import pytest

import fastmlp as fm

KEYS = ("step", "epoch", "train_loss", "val_loss", "val_accuracy", "lr", "seconds")


@pytest.fixture(scope="module")
def digits():
    return fm.load("digits")


def toy(rows=50, features=6, classes=3, seed=0):
    generator = np.random.default_rng(seed)
    X = generator.standard_normal((rows, features)).astype(np.float32)
    y = (X @ generator.standard_normal((features, classes))).argmax(axis=1)
    return X, y


def trainer_of(optimizer=None, *, dropout=0.0, dtype=np.float32, **kwargs):
    model = fm.MLP(6, [8], 3, dropout=dropout, dtype=dtype, rng=0)
    return fm.Trainer(model, fm.CrossEntropyLoss(), optimizer or fm.Adam(lr=1e-2), **kwargs)


def same_weights(one, other):
    states = one.model.state_dict(), other.model.state_dict()
    return all(np.array_equal(states[0][name], states[1][name]) for name in states[0])


# ------------------------------------------------------------------------------------- the main job


def test_the_example_of_the_readme_learns_digits(digits):
    X, y, X_test, y_test = digits
    model = fm.Sequential(
        fm.Normalize.fit(X, kind="standard"), fm.Linear(64, 100, rng=0), fm.ELU(), fm.Linear(100, 10, rng=1)
    )
    trainer = fm.Trainer(model, fm.CrossEntropyLoss(), fm.SGD(lr=0.05, momentum=0.9))
    history = trainer.fit(
        X, y, validation=(X_test, y_test), batch_size=200, max_steps=150, eval_every=40, rng=42, threads=2
    )
    assert history["step"] == [40, 80, 120, 150]
    assert history["epoch"] == pytest.approx([5, 10, 15, 18 + 6 * 200 / 1437])  # an epoch has 8 batches
    assert history["lr"] == [0.05] * 4
    assert history["seconds"] == sorted(history["seconds"]) and history["seconds"][0] > 0
    measured = trainer.evaluate(X_test, y_test)
    assert measured == {"loss": history.last["val_loss"], "accuracy": history.last["val_accuracy"]}
    assert measured["accuracy"] >= 0.95
    assert (trainer.predict(X_test) == y_test).mean() == pytest.approx(measured["accuracy"])
    probabilities = trainer.predict_proba(X_test)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)
    assert np.array_equal(probabilities.argmax(axis=1), trainer.predict(X_test))
    assert trainer.threads == 2 and trainer.seed == 42 and model.task == "classification"


def test_history_is_a_sequence_of_records_and_a_table():
    history = trainer_of().fit(*toy(), epochs=3, rng=0)
    assert len(history) == 3 and history.keys() == KEYS
    assert [tuple(record) for record in history] == [KEYS] * 3
    assert history[-1] is history.last and history["step"] == [2, 4, 6]
    assert history["val_loss"] == [None] * 3 == history["val_accuracy"]
    assert history.to_dict()["epoch"] == [1.0, 2.0, 3.0]
    with pytest.raises(KeyError, match="no 'loss'; expected one of step, epoch"):
        history["loss"]
    assert "3 evaluations" in repr(history)
    assert fm.History().last is None


def test_train_loss_is_the_mean_batch_loss_since_the_last_record():
    losses = []

    class Listen:
        def on_step(self, trainer, step, loss):
            losses.append(loss)
            assert trainer.steps == step == len(losses)

    history = trainer_of().fit(*toy(), batch_size=8, max_steps=13, eval_every=5, callbacks=[Listen()], rng=0)
    parts = [losses[:5], losses[5:10], losses[10:]]
    assert history["train_loss"] == pytest.approx([np.mean(part) for part in parts], rel=1e-12)


def test_without_a_length_it_trains_ten_epochs():
    trainer = trainer_of()
    assert len(trainer.fit(*toy())) == 10 and trainer.epoch == 10


# ------------------------------------------------------------------------- going on, and determinism


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_two_fits_are_one(dropout):
    X, y = toy()
    once, twice = trainer_of(dropout=dropout), trainer_of(dropout=dropout)
    once.fit(X, y, batch_size=16, max_steps=23, rng=7)
    twice.fit(X, y, batch_size=16, max_steps=9, eval_every=4, rng=7)
    history = twice.fit(X, y, batch_size=16, max_steps=14)  # the seed and the position in the epoch carry over
    assert history.last["step"] == 23 and history.last["epoch"] == once.epoch
    assert same_weights(once, twice)


@pytest.mark.parametrize(
    "how", [copy.deepcopy, lambda trainer: pickle.loads(pickle.dumps(trainer))], ids=["copy", "pickle"]
)
@pytest.mark.parametrize("augmented", [False, True])
@pytest.mark.parametrize("backend", ["numpy", "numba"])
def test_a_copy_goes_on_as_its_original_does(backend, augmented, how):
    """Order, masks, noise, averages, the schedule and the optimizer, from the middle of an epoch on."""
    X, y = toy()
    more = {"augment": [fm.GaussianNoise(0.1), fm.Mixup(0.3)]} if augmented else {}
    with fm.use_backend(backend):
        ref = trainer_of(fm.Adam(fm.ReduceOnPlateau(0.01, patience=0, threshold=0.5)), dropout=0.3, average=0.9)
    ref.fit(X, y, max_steps=9, batch_size=8, rng=3, **more)
    comp = how(ref)
    for trainer in (ref, comp):
        trainer.fit(X, y, max_steps=13, eval_every=2, batch_size=8, **more)
        trainer.step(X, y)
    assert same_weights(ref, comp) and ref.history["train_loss"] == comp.history["train_loss"]
    assert ref.history["lr"] == comp.history["lr"] and ref.epoch == comp.epoch
    averages = ref.averaged_model().state_dict(), comp.averaged_model().state_dict()
    assert all(np.array_equal(averages[0][name], averages[1][name]) for name in averages[0])


def test_the_seed_decides():
    results = []
    for seed in (1, 1, 2):
        trainer = trainer_of(dropout=0.2)
        trainer.fit(*toy(), epochs=2, rng=seed)
        results.append(trainer)
    assert same_weights(results[0], results[1]) and not same_weights(results[0], results[2])
    drawn = trainer_of()
    drawn.fit(*toy(), epochs=1)
    again = trainer_of()
    again.fit(*toy(), epochs=1, rng=drawn.seed)
    assert same_weights(drawn, again)
    assert trainer_of().fit(*toy(), epochs=1, rng=np.random.default_rng(3)).last is not None


def test_every_row_is_used_once_an_epoch():
    X, y = toy(rows=21)
    seen = []
    trainer = trainer_of()
    take = trainer._order.take

    def spy(size, steps, *ahead):
        index, bounds = take(size, steps, *ahead)
        seen.extend(index[start:stop].tolist() for start, stop in itertools.pairwise(bounds))
        return index, bounds

    trainer._order.take = spy
    trainer.fit(X, y, batch_size=8, epochs=2, rng=0)
    assert [len(batch) for batch in seen] == [8, 8, 5] * 2
    first, second = sum(seen[:3], []), sum(seen[3:], [])
    assert sorted(first) == sorted(second) == list(range(21)) and first != second != sorted(second)
    seen.clear()
    trainer.fit(X, y, batch_size=8, epochs=1, drop_last=True)
    assert [len(batch) for batch in seen] == [8, 8] and trainer.epoch == 3
    seen.clear()
    trainer.fit(X, y, batch_size=8, epochs=1, shuffle=False)
    assert sum(seen, []) == list(range(21))


def test_a_batch_larger_than_the_set_is_the_set():
    X, y = toy()
    one, other = trainer_of(), trainer_of()
    assert one.fit(X, y, batch_size=10_000, epochs=4, rng=0)["step"] == [1, 2, 3, 4]
    other.fit(X, y, batch_size=50, epochs=4, rng=0)
    assert same_weights(one, other)


def test_memory_layout_and_kind_of_array_do_not_matter(tmp_path):
    X, y = toy()
    read_only = X.copy()
    read_only.flags.writeable = False
    np.save(tmp_path / "X.npy", X)
    wide = np.zeros((100, 12), np.float32)
    wide[::2, ::2] = X
    ways = [
        X,
        read_only,
        np.asfortranarray(X),
        wide[::2, ::2],
        np.load(tmp_path / "X.npy", mmap_mode="r"),
        X.tolist(),
        X.astype(np.float64),
    ]
    trainers = []
    for way in ways:
        trainers.append(trainer_of())
        trainers[-1].fit(way, y.tolist(), validation=(way, y), epochs=2, rng=0)
    assert all(same_weights(trainers[0], trainer) for trainer in trainers)
    assert np.array_equal(read_only, X)


def test_bytes_are_not_copied_as_floats(digits):
    X, y, _, _ = digits
    results = []
    for way in (X, X.astype(np.float32)):
        model = fm.MLP(64, [16], 10, normalize=fm.Normalize.fit(X), rng=0)
        trainer = fm.Trainer(model, fm.CrossEntropyLoss(), fm.SGD(lr=0.1))
        trainer.fit(way, y, max_steps=20, rng=0)
        results.append(trainer)
    assert same_weights(*results)


def test_float64_models_train_in_float64():
    trainer = trainer_of(dtype=np.float64)
    trainer.fit(*toy(), epochs=1)
    assert all(array.dtype == np.float64 for array in trainer.model.state_dict().values())


def test_a_model_may_move_between_backends():
    trainer = trainer_of()
    trainer.fit(*toy(), epochs=1, rng=0)
    trainer.model.to("numpy")
    trainer.fit(*toy(), epochs=1)
    assert trainer.loss.backend_name == "numpy" and trainer.steps == 4


# ---------------------------------------------------------------------------------- measuring


def test_evaluation_in_blocks_is_exact():
    X, y = toy(rows=101)
    model = fm.MLP(6, [8], 3, dtype=np.float64, rng=0)
    weight = np.random.default_rng(1).uniform(0, 2, 101)
    weight[:40] = 0  # entire blocks of rows with weight 0
    loss = fm.CrossEntropyLoss(class_weight=[1, 2, 3], label_smoothing=0.1)
    trainer = fm.Trainer(model, loss, fm.SGD())
    for weights in (None, weight):
        whole = loss.forward(model.infer(X), y, weights)
        for size in (1, 7, 101, 500):
            assert trainer.evaluate(X, y, weights, batch_size=size)["loss"] == pytest.approx(whole, rel=1e-13)
    right = model.infer(X).argmax(axis=1) == y
    assert trainer.evaluate(X, y, weight)["accuracy"] == pytest.approx(np.average(right, weights=weight))


def test_weights_count_rows():
    X, y = toy(rows=30)
    trainer = trainer_of(dtype=np.float64)
    counts = np.arange(30) % 3
    weighted = trainer.evaluate(X, y, counts)
    repeated = trainer.evaluate(np.repeat(X, counts, axis=0), np.repeat(y, counts))
    assert weighted == pytest.approx(repeated, rel=1e-12)


def test_rows_of_weight_zero_are_left_out():
    X, y = toy(rows=30)
    weight = np.ones(30)
    weight[::3] = 0
    one, other = trainer_of(), trainer_of()
    one.fit(X, y, sample_weight=weight, batch_size=8, epochs=2, rng=0)
    other.fit(X[weight > 0], y[weight > 0], sample_weight=np.ones(20), batch_size=8, epochs=2, rng=0)
    assert one.steps == other.steps == 6 and same_weights(one, other)


def test_validation_may_be_weighted():
    X, y = toy()
    weight = np.linspace(0, 1, 50)
    trainer = trainer_of()
    history = trainer.fit(X, y, validation=(X, y, weight), epochs=1)
    assert history.last["val_loss"] == trainer.evaluate(X, y, weight)["loss"]


def test_regression_is_measured_by_r2():
    generator = np.random.default_rng(0)
    X = generator.standard_normal((60, 4))
    y = X @ generator.standard_normal((4, 2)) + 0.1
    model = fm.MLP(4, [16], 2, "tanh", dtype=np.float64, rng=0)
    trainer = fm.Trainer(model, fm.MSELoss(), fm.Adam(lr=0.02))
    history = trainer.fit(X, y, validation=(X, y), epochs=60, rng=0)
    assert history.last["val_accuracy"] is None
    result = trainer.evaluate(X, y)
    answers = trainer.predict(X)
    r2 = 1 - ((y - answers) ** 2).sum(axis=0) / ((y - y.mean(axis=0)) ** 2).sum(axis=0)
    assert result["r2"] == pytest.approx(r2.mean()) and result["r2"] > 0.95
    assert result["loss"] == pytest.approx(((y - answers) ** 2).mean())
    with pytest.raises(ValueError, match="MSELoss is for regression"):
        trainer.predict_proba(X)
    constant = trainer.evaluate(X, np.ones((60, 2)))
    assert constant["r2"] == 0.0
    assert math.isnan(trainer.evaluate(X[:1], y[:1])["r2"])


def test_a_single_output_comes_as_a_vector():
    X, y = toy()
    trainer = fm.Trainer(fm.MLP(6, [], 1, rng=0), fm.MSELoss(), fm.SGD())
    trainer.fit(X, y.astype(float), epochs=1)
    assert trainer.predict(X).shape == (50,) and trainer.predict(X[:0]).shape == (0,)


def test_binary_tasks():
    X, y = toy(classes=2)
    model = fm.MLP(6, [8], 1, rng=0)
    trainer = fm.Trainer(model, fm.BCEWithLogitsLoss(), fm.Adam(lr=0.02), classes=["no", "yes"])
    trainer.fit(X, y, epochs=40, rng=0)
    assert model.task == "binary"
    answers = trainer.predict(X)
    assert set(answers) == {"no", "yes"}
    assert trainer.evaluate(X, y)["accuracy"] == pytest.approx(((answers == "yes") == y).mean())
    probabilities = trainer.predict_proba(X)
    assert probabilities.shape == (50, 1)
    assert np.array_equal(probabilities[:, 0] > 0.5, answers == "yes")
    many = fm.Trainer(fm.MLP(6, [], 4, rng=0), fm.BCEWithLogitsLoss(), fm.SGD())
    assert many.predict(X).shape == (50, 4) and set(np.unique(many.predict(X))) <= {0, 1}
    targets = np.zeros((50, 4))
    assert many.evaluate(X, targets)["accuracy"] == pytest.approx((many.predict(X) == 0).mean())


@pytest.mark.slow
def test_probabilities_from_softmax_and_soft_targets():
    X, y = toy()
    model = fm.Sequential(fm.Linear(6, 3, rng=0), fm.Softmax())
    trainer = fm.Trainer(model, fm.CrossEntropyLoss(from_logits=False), fm.Adam(lr=0.05))
    soft = np.eye(3)[y] * 0.9 + 0.1 / 3
    trainer.fit(X, soft, epochs=30, rng=0)
    np.testing.assert_array_equal(trainer.predict_proba(X), model.infer(X))
    assert trainer.evaluate(X, soft)["accuracy"] > 0.9


def test_labels_are_those_given():
    X, y = toy()
    trainer = trainer_of(classes=["a", "b", "c"])
    trainer.fit(X, y, epochs=30, rng=0)
    assert (trainer.predict(X) == np.array(["a", "b", "c"])[y]).mean() > 0.9
    with pytest.raises(ValueError, match="classes has 2 labels; expected 3"):
        trainer_of(classes=["a", "b"])


# ---------------------------------------------------------------------------------- steps, schedules


def test_a_step_gives_the_loss_before_it():
    X, y = toy()
    trainer = trainer_of(fm.SGD(lr=0.1))
    before = trainer.evaluate(X, y)["loss"]
    assert trainer.step(X, y) == pytest.approx(before, rel=1e-6)
    losses = [trainer.step(X, y) for _ in range(20)]
    assert losses == sorted(losses, reverse=True) and trainer.steps == 21


def test_schedules_are_followed_and_fed():
    X, y = toy()
    trainer = trainer_of(fm.SGD(lr=fm.StepDecay(0.1, every=3, factor=0.5)))
    assert trainer.fit(X, y, max_steps=7, eval_every=1, rng=0)["lr"] == pytest.approx([0.1] * 3 + [0.05] * 3 + [0.025])
    plateau = trainer_of(fm.SGD(lr=fm.ReduceOnPlateau(1e-9, factor=0.5, patience=1)))
    rates = plateau.fit(X, y, validation=(X, y), max_steps=6, eval_every=1, rng=0)["lr"]
    assert rates[0] == 1e-9


def test_after_a_fit_dropout_is_off():
    X, y = toy()
    trainer = trainer_of(dropout=0.5)
    trainer.fit(X, y, epochs=1)
    assert np.array_equal(trainer.model.forward(X), trainer.model.infer(X))


# ---------------------------------------------------------------------------------- callbacks and ends


def test_callbacks_are_called_in_order():
    calls = []

    class Spy:
        def on_fit_begin(self, trainer):
            calls.append(("begin", trainer.planned_steps))

        def on_evaluation(self, trainer, record):
            calls.append(("evaluation", record["step"]))

        def on_fit_end(self, trainer):
            calls.append(("end", trainer.steps))

    plain = []
    trainer_of().fit(*toy(), epochs=2, callbacks=[Spy(), lambda trainer, record: plain.append(record["step"])])
    alone: list = []
    trainer_of().fit(*toy(), epochs=2, callbacks=lambda trainer, record: alone.append(record["step"]))
    assert alone == plain
    assert calls == [("begin", 4), ("evaluation", 2), ("evaluation", 4), ("end", 4)] and plain == [2, 4]
    for wrong in (3, "text", fm.SGD):
        with pytest.raises(ValueError, match="callbacks holds"):
            trainer_of().fit(*toy(), callbacks=[wrong])


def test_the_end_is_told_after_a_failure_too():
    ends = []

    class Fails:
        def on_step(self, trainer, step, loss):
            raise RuntimeError("mine")

        def on_fit_end(self, trainer):
            ends.append(trainer.steps)

    with pytest.raises(RuntimeError, match="mine"):
        trainer_of().fit(*toy(), callbacks=[Fails()])
    assert ends == [1]


def test_a_callback_may_stop_the_run():
    def stop(trainer, record):
        if record["step"] >= 3:
            trainer.stop()

    trainer = trainer_of()
    assert len(trainer.fit(*toy(), max_steps=100, eval_every=1, callbacks=[stop])) == 3

    class Stop:
        def on_step(self, trainer, step, loss):
            trainer.stop()

    assert trainer.fit(*toy(), epochs=1, callbacks=[Stop()])["step"] == [4]
    assert len(trainer.fit(*toy(), epochs=2)) == 2


@pytest.mark.usefixtures("interruptible")
@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_ctrl_c_comes_between_steps_and_training_can_go_on():
    X, y = toy()

    class Interrupt:
        def on_step(self, trainer, step, loss):
            if step == 5:
                os.kill(os.getpid(), signal.SIGINT)

    trainer, whole = trainer_of(), trainer_of()
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        trainer.fit(X, y, batch_size=16, max_steps=11, eval_every=2, callbacks=[Interrupt()], rng=0)
    assert trainer.steps == 5 and trainer.history["step"] == [2, 4]
    assert signal.getsignal(signal.SIGINT) is handler
    trainer.fit(X, y, batch_size=16, max_steps=6)
    whole.fit(X, y, batch_size=16, max_steps=11, rng=0)
    assert same_weights(trainer, whole)


def test_divergence_keeps_the_last_good_weights():
    X, y = toy()

    class Spoil:
        def on_step(self, trainer, step, loss):
            if step == 8:
                trainer.model[0].params["weight"][0, 0] = np.inf

    trainer, good = trainer_of(), trainer_of()
    good.fit(X, y, batch_size=16, max_steps=6, rng=0)
    with pytest.raises(fm.DivergenceError, match=r"step 9 is .* learning rate 0\.01.* weights of step 6"):
        trainer.fit(X, y, batch_size=16, max_steps=40, eval_every=3, callbacks=[Spoil()], rng=0)
    assert trainer.steps == 6 and same_weights(trainer, good) and len(trainer.history) == 2
    good.fit(X, y, batch_size=16, max_steps=5)
    trainer.fit(X, y, batch_size=16, max_steps=5)  # the optimizer's state is restored too
    assert same_weights(trainer, good)


@pytest.mark.parametrize("rate", [1e20, 1e30, 3e38])
def test_a_rate_far_too_large_is_a_clear_error(rate):
    trainer = trainer_of(fm.SGD(lr=rate))
    before = trainer.model.state_dict()
    with pytest.raises(fm.DivergenceError, match="smaller learning rate") as error:
        trainer.fit(*toy(), epochs=5, rng=0)
    assert f"{rate:g}" in str(error.value)
    after = trainer.model.state_dict()
    assert all(np.array_equal(before[name], after[name]) for name in before)


def test_a_step_that_diverges_changes_nothing():
    X, y = toy()
    trainer = trainer_of()
    trainer.model[2].params["bias"][0] = np.inf
    before = trainer.model.state_dict()
    with pytest.raises(fm.DivergenceError, match="the loss of step 1 is"):
        trainer.step(X, y)
    assert trainer.steps == 0
    assert all(np.array_equal(before[name], array) for name, array in trainer.model.state_dict().items())


def test_accumulated_batches_follow_the_gradient_of_all_their_rows(backend):
    rng = np.random.default_rng(0)
    X, y, weight = rng.normal(size=(48, 5)), rng.integers(0, 3, 48), rng.uniform(0.5, 2, 48)
    made, by_hand = (fm.MLP(5, [7], 3, "tanh", dtype=np.float64, rng=0) for _ in range(2))
    trainer = fm.Trainer(made, fm.CrossEntropyLoss(), fm.SGD(0.1))
    trainer.fit(X, y, batch_size=8, accumulate=3, epochs=1, sample_weight=weight, shuffle=False)
    assert trainer.steps == 2
    loss, optimizer = fm.CrossEntropyLoss(), fm.SGD(0.1)
    for first in (0, 24):
        sums = None
        for start in range(first, first + 24, 8):
            rows = slice(start, start + 8)
            by_hand.backward(loss.backward(by_hand.forward(X[rows]), y[rows], weight[rows]))
            share = weight[rows].sum() / weight[first : first + 24].sum()
            parts = {name: share * gradient for name, gradient in by_hand.named_gradients()}
            sums = parts if sums is None else {name: sums[name] + part for name, part in parts.items()}
        for name, gradient in by_hand.named_gradients():
            gradient[...] = sums[name]
        optimizer.step(by_hand)
    for name, array in by_hand.state_dict().items():
        np.testing.assert_allclose(made.state_dict()[name], array, 1e-12, 1e-14)
    with pytest.raises(ValueError, match="accumulate is 0; expected an integer of at least 1"):
        trainer.fit(X, y, accumulate=0)
