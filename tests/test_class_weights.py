"""Classes of weight 0: the loss is the weighted sum over the sum of weights, for any split into batches."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
from checks import assert_matches
from same_steps import arrays_of, modules_only

import fastmlp as fm

C = 4
WEIGHT = np.array([1.0, 0.0, 2.5, 0.0])


def rows_of(n, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, 6)), rng.integers(0, C, n)


def model_of(dtype=np.float64):
    return fm.MLP(6, [8], C, dtype=dtype, rng=0)


def reference(outputs, y, smoothing=0.0, s=None):
    """sum s_i l_i / sum s_i w_i in float64."""
    s = np.ones(len(y)) if s is None else s
    log_p = outputs - np.log(np.exp(outputs).sum(axis=1, keepdims=True))
    t = (1 - smoothing) * np.eye(C)[y] + smoothing / C
    return -(s[:, None] * WEIGHT * t * log_p).sum() / (s * WEIGHT[y]).sum()


@pytest.mark.parametrize("options", [{}, {"label_smoothing": 0.1}, {"from_logits": False}], ids=str)
@pytest.mark.parametrize("weight", [None, np.arange(1.0, 6.0)])
def test_rows_without_weight_have_no_loss_and_no_gradient(options, weight, backend, dtype, rng):
    x = rng.uniform(0.1, 1, (5, C)).astype(dtype)
    y = np.array([1, 3, 3, 1, 1])
    loss = fm.CrossEntropyLoss(class_weight=WEIGHT, **options)
    assert loss.denominator(y, weight) == 0.0
    assert loss.forward(x, y, weight) == 0.0
    np.testing.assert_array_equal(loss.backward(x, y, weight), np.zeros_like(x))
    value, gradient = loss.forward_backward(x, y, weight)
    assert value == 0.0 and not gradient.any()


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("weighted", [False, True])
def test_evaluation_depends_neither_on_the_order_nor_on_the_blocks(smoothing, weighted, backend):
    X, y = rows_of(200)
    s = np.random.default_rng(1).uniform(0.1, 2, 200) if weighted else None
    model = model_of()
    loss = fm.CrossEntropyLoss(class_weight=WEIGHT, label_smoothing=smoothing)
    trainer = fm.Trainer(model, loss, fm.SGD())
    ref = reference(model.backend.to_numpy(model.infer(X)), y, smoothing, s)
    for order in (np.arange(200), np.argsort(y), np.argsort(-y)):
        for size in (1, 7, 64, None):
            weight = None if s is None else s[order]
            comp = trainer.evaluate(X[order], y[order], weight, batch_size=size)["loss"]
            assert_matches(ref, comp, 1e-12)
    sorted_rows = X[np.argsort(y)], np.sort(y)
    history = trainer.fit(X, y, validation=sorted_rows, epochs=1, batch_size=3, rng=0)
    assert_matches(reference(model.backend.to_numpy(model.infer(X)), y, smoothing), history.last["val_loss"], 1e-12)


@pytest.mark.parametrize("accumulate", [1, 3])
@pytest.mark.parametrize("options", [{}, {"label_smoothing": 0.1}], ids=str)
@pytest.mark.parametrize("weighted", [False, True])
def test_engine_and_modules_make_the_same_steps(accumulate, options, weighted):
    """Batches of both kinds; in those without weight the optimizer's step follows a gradient of zero."""
    X, y = rows_of(60)
    y[:33] = 1
    weight = np.random.default_rng(1).uniform(0, 2, 60) * (np.arange(60) % 5 > 0) if weighted else None
    results = []
    for way in (modules_only, contextlib.nullcontext):
        loss = fm.CrossEntropyLoss(class_weight=WEIGHT, **options)
        trainer = fm.Trainer(model_of(), loss, fm.Adam(0.01), l2=0.1)
        with way(), fm.use_backend("numba"):
            history = trainer.fit(
                X, y, sample_weight=weight, batch_size=4, accumulate=accumulate, shuffle=False, epochs=2, rng=0,
                threads=1,
            )  # fmt: skip
        assert (trainer._session is None) == (way is modules_only)
        results.append((arrays_of(trainer), history["train_loss"], trainer.step_losses))
    (ref, ref_means, ref_losses), (comp, means, losses) = results
    for name, array in ref.items():
        assert_matches(array, comp[name], 1e-10 * np.abs(array).max(), name)
    assert_matches(ref_means, means, 1e-10)
    assert_matches(ref_losses, losses, 1e-10)
    assert_matches(np.zeros(2), losses[:2] - trainer.step_penalties[:2])  # batches of class 1 alone


def test_a_batch_without_weight_has_a_gradient_of_zero(backend):
    """SGD stays where it is, and momentum rolls on."""
    X, y = rows_of(8)
    trainer = fm.Trainer(model_of(), fm.CrossEntropyLoss(class_weight=WEIGHT), fm.SGD(0.1))
    before = trainer.model.state_dict()
    assert trainer.step(X, np.full(8, 1)) == 0.0 and trainer.steps == 1
    for name, array in trainer.model.state_dict().items():
        np.testing.assert_array_equal(array, before[name])
    trainer = fm.Trainer(model_of(), fm.CrossEntropyLoss(class_weight=WEIGHT), fm.SGD(0.1, momentum=0.5))
    states = []
    for target in (np.zeros(8, int), np.full(8, 3)):
        trainer.step(X, target)
        states.append(trainer.model.state_dict())
    for name, array in states[1].items():  # updates 0.1 v, then 0.1 (0.5 v)
        ref = states[0][name] + 0.5 * (states[0][name] - before[name])
        assert_matches(ref, array, 1e-12)


def test_the_training_loss_is_the_mean_over_batches_with_weight():
    X, y = rows_of(30)
    y[:12], y[20:25] = 1, 3
    trainer = fm.Trainer(model_of(), fm.CrossEntropyLoss(class_weight=WEIGHT), fm.SGD(0.0))
    last = trainer.fit(X, y, batch_size=5, shuffle=False, epochs=1, rng=0).last
    losses = trainer.step_losses
    assert list(losses[[0, 1, 4]]) == [0, 0, 0] and losses[[2, 3, 5]].all()
    assert_matches(losses[[2, 3, 5]].mean(), last["train_loss"], 1e-15)
    outputs = trainer.model.infer(X)
    assert_matches(reference(outputs[25:], y[25:]), losses[5], 1e-12)
    # evaluation after each step, including batches of weight 0 only
    history = trainer.fit(X, y, batch_size=5, shuffle=False, epochs=1, eval_every=1)
    assert history["train_loss"] == list(losses)


@pytest.mark.parametrize("where", ["fit", "validation", "evaluate"])
def test_rows_that_have_no_weight_at_all(where):
    X, y = rows_of(20)
    nothing = np.where(np.arange(20) % 2, 1, 3)
    trainer = fm.Trainer(model_of(), fm.CrossEntropyLoss(class_weight=WEIGHT), fm.SGD())
    with pytest.raises(ValueError, match="class weights of the targets sum to 0; expected a sum above 0"):
        if where == "evaluate":
            trainer.evaluate(X, nothing)
        elif where == "fit":
            trainer.fit(X, nothing)
        else:
            trainer.fit(X, y, validation=(X, nothing))
    assert trainer.steps == 0
    weight = (np.arange(20) == 3).astype(float)  # a row of class weight 0, the only one that counts
    with pytest.raises(ValueError, match="class weights of the targets sum to 0"):
        trainer.fit(X, nothing, sample_weight=weight)


def test_a_resumed_fit_ends_with_the_same_training_loss(tmp_path):
    """The mean since the last evaluation has batches of both kinds before the stop."""
    X, y = rows_of(60)
    y[::2] = 1

    def made(**options):
        trainer = fm.Trainer(model_of(), fm.CrossEntropyLoss(class_weight=WEIGHT), fm.Adam())
        return trainer.fit(X, y, batch_size=2, epochs=1, rng=3, **options)

    class Stop:
        def on_step(self, trainer, step, loss):
            if step == 17:
                raise KeyboardInterrupt

    path = tmp_path / "state.safetensors"
    with pytest.raises(KeyboardInterrupt):
        made(callbacks=[fm.SaveState(path), Stop()])
    ref, comp = made(callbacks=[fm.SaveState(tmp_path / "other")]), made(resume=path, callbacks=[fm.SaveState(path)])
    assert comp["train_loss"] == ref["train_loss"]


def test_targets_have_weights_by_option_or_by_class():
    class Own(fm.MSELoss):
        def target_weights(self, target):
            return np.abs(target).sum(axis=1)

    losses = fm.CrossEntropyLoss(), fm.CrossEntropyLoss(class_weight=WEIGHT), fm.MSELoss(), Own()
    assert [loss.weighs_targets for loss in losses] == [False, True, False, True]
