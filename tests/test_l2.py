"""The L2 penalty of `Trainer`: equal by engine and modules, and equal to scikit-learn's alpha."""

import numpy as np
import pytest
from checks import assert_matches

import fastmlp as fm

ROWS, FEATURES, ALPHA = 37, 9, 0.3


def data(outputs=3):
    rng = np.random.default_rng(0)
    return rng.normal(size=(ROWS, FEATURES)), rng.integers(0, outputs, ROWS), rng.uniform(0.2, 2, ROWS)


def trained(backend, dtype, weight, steps=5, threads=None, **options):
    X, y, s = data()
    with fm.use_backend(backend):
        model = fm.MLP(FEATURES, [33, 7], 3, "tanh", layer_norm=True, dtype=dtype, rng=0)
        trainer = fm.Trainer(model, fm.CrossEntropyLoss(), fm.SGD(0.1, 0.9, **options), l2=ALPHA)
    trainer.fit(X, y, batch_size=16, max_steps=steps, sample_weight=s if weight else None, rng=1, threads=threads)
    return trainer


@pytest.mark.parametrize("weight", [False, True])
@pytest.mark.parametrize("options", [{}, {"clip_norm": 0.5}, {"clip_value": 0.02}], ids=str)
def test_the_engine_and_the_modules_agree(weight, options, dtype):
    ref, comp = trained("numpy", np.float64, weight, **options), trained("numba", dtype, weight, **options)
    bound = 200 * float(np.finfo(dtype).eps)
    assert_matches(ref.step_losses, comp.step_losses, bound * np.abs(ref.step_losses))
    assert_matches(ref.step_penalties, comp.step_penalties, bound * np.abs(ref.step_penalties))
    weights = comp.model.state_dict()
    for name, array in ref.model.state_dict().items():
        assert_matches(array, weights[name], bound * (1 + np.abs(array)))


def test_one_step_follows_the_formula():
    X, y, s = data()
    model = fm.MLP(FEATURES, [8], 3, dtype=np.float64, rng=0)
    plain = fm.MLP(FEATURES, [8], 3, dtype=np.float64, rng=0)
    ours = fm.Trainer(model, fm.CrossEntropyLoss(), fm.SGD(0.1), l2=ALPHA)
    theirs = fm.Trainer(plain, fm.CrossEntropyLoss(), fm.SGD(0.1))
    before = model.state_dict()
    squares = sum((array**2).sum() for name, array in before.items() if name.endswith("weight"))
    losses = ours.step(X, y, s), theirs.step(X, y, s)
    assert_matches(losses[1] + ALPHA / (2 * s.sum()) * squares, losses[0], 1e-12)
    after = plain.state_dict()
    for name, array in model.state_dict().items():
        shrunk = 0.1 * ALPHA / s.sum() * before[name] if name.endswith("weight") else 0
        assert_matches(after[name] - shrunk, array, 1e-14)


def test_threads_do_not_change_it():
    ref, comp = trained("numba", np.float32, True, 20, threads=1), trained("numba", np.float32, True, 20, threads=3)
    assert (ref.step_penalties == comp.step_penalties).all() and len(ref.step_penalties) == 2
    for name, array in ref.model.state_dict().items():
        assert (array == comp.model.state_dict()[name]).all()


def test_a_bad_penalty():
    with pytest.raises(ValueError, match="l2 is -1; expected a finite number of at least 0"):
        fm.Trainer(fm.MLP(3, [], 2), fm.CrossEntropyLoss(), fm.SGD(), l2=-1)
