"""The exponential moving average of the weights."""

from functools import partial

import numpy as np
import pytest
from checks import assert_matches
from optimizers import EXAMPLES

import fastmlp as fm

DECAY = 0.9
OPTIMIZERS = {**EXAMPLES, "clipped": partial(EXAMPLES["adam 0"], clip_norm=0.5)}


def data():
    rng = np.random.default_rng(0)
    return rng.normal(size=(70, 5)), rng.integers(0, 3, 70)


def trainer(make=EXAMPLES["sgd 0"], dtype=np.float64, average=DECAY):
    model = fm.MLP(5, [37], 3, "tanh", layer_norm=True, dtype=dtype, rng=0)
    return fm.Trainer(model, fm.CrossEntropyLoss(), make(), average=average)


@pytest.mark.slow
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_it_follows_the_formula(name, backend, dtype):
    made, plain = trainer(OPTIMIZERS[name], dtype), trainer(OPTIMIZERS[name], dtype, None)
    ref = {key: array.astype(np.float64) for key, array in made.model.state_dict().items()}
    seen = []

    def step(trainer, number, loss):
        for key, array in trainer.model.state_dict().items():
            ref[key] = DECAY * ref[key] + (1 - DECAY) * array
        seen.append(number)

    X, y = data()
    made.fit(X, y, batch_size=16, epochs=3, rng=0, callbacks=[type("Watch", (), {"on_step": staticmethod(step)})()])
    plain.fit(X, y, batch_size=16, epochs=3, rng=0)
    comp = made.averaged_model().state_dict()
    for key, array in ref.items():
        # Each step adds a rounding error of this size; the decay damps earlier errors.
        bound = 2 * float(np.finfo(dtype).eps) / (1 - DECAY) * (np.abs(array) + 1)
        assert_matches(array, comp[key], bound, key)
        np.testing.assert_array_equal(made.model.state_dict()[key], plain.model.state_dict()[key])  # same training
    assert len(seen) == 15


def test_in_one_run_of_steps_and_for_any_threads():
    X, y = data()
    made = [trainer(dtype=np.float32) for _ in range(3)]
    for one, options in zip(made, ({"threads": 1}, {"threads": 2}, {"callbacks": [Nothing()]}), strict=True):
        one.fit(X, y, batch_size=16, epochs=3, rng=0, **options)
    states = [one.averaged_model().state_dict() for one in made]
    assert all((states[0][key] == state[key]).all() for state in states[1:] for key in state)
    assert any((states[0][key] != array).any() for key, array in made[0].model.state_dict().items())


class Nothing(fm.Callback):
    """Has the trainer come back after each step."""

    def on_step(self, trainer, step, loss):
        pass


def test_averages_are_saved_where_there_are_some(tmp_path):
    x, y = np.random.default_rng(0).normal(size=(9, 5)), np.arange(9) % 3
    with pytest.raises(ValueError, match=r"needs averages; expected a Trainer\(average=...\)"):
        trainer(average=None).fit(x, y, callbacks=[fm.SaveModel(tmp_path / "m", average=True)])
    assert not (tmp_path / "m").exists()


def test_bad_averages():
    with pytest.raises(ValueError, match="average is 1; expected a finite number of at least 0 and below 1"):
        trainer(average=1)
    with pytest.raises(ValueError, match="There are no averages of the weights"):
        trainer().averaged_model()
    with pytest.raises(ValueError, match="There are no averages of the weights"):
        trainer(average=None).averaged_model()


def test_it_is_part_of_the_optimizers_state():
    X, y = data()
    one, other = trainer(), trainer()
    one.fit(X, y, epochs=1, rng=0)
    other.optimizer.load_state_dict(one.optimizer.state_dict())
    other.model.load_state_dict(one.model.state_dict())
    assert all(
        (array == other.averaged_model().state_dict()[key]).all()
        for key, array in one.averaged_model().state_dict().items()
    )
