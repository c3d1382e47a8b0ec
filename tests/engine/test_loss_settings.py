"""Loss parameters changed between two fits or steps: the second one uses the new value."""

from __future__ import annotations

import copy

import loss_zoo
import numpy as np
import pytest
from same_steps import modules_only

import fastmlp as fm

numba = pytest.importorskip("numba")
if numba.config.DISABLE_JIT:
    pytest.skip("the engine runs jitted only", allow_module_level=True)

generator = np.random.default_rng(5)
X = generator.standard_normal((33, 9))


@pytest.fixture(autouse=True)
def on_numba():
    with fm.use_backend("numba"):
        yield


def parameters_of(loss):
    """Public attributes with a value; each is None in one example and has one in another."""
    return {k: v for k, v in vars(loss).items() if not k.startswith("_") and k != "backend" and v is not None}


def change(loss, name):
    value = getattr(loss, name)
    if isinstance(value, np.ndarray):
        value[...] = 1.1 + value[::-1] / 2  # in place
    elif isinstance(value, bool):
        setattr(loss, name, not value)
    elif isinstance(value, str):
        setattr(loss, name, {"mean": "rows", "rows": "mean"}[value])
    else:
        setattr(loss, name, 0.1 + value / 2)


CASES = []
with fm.use_backend("numpy"):
    for example in loss_zoo.NAMES:
        CASES += [(example, name) for name in parameters_of(loss_zoo.make(example))]


@pytest.mark.parametrize("kind", sorted({example.partition("-")[0] for example in loss_zoo.NAMES}))
def test_every_argument_is_a_parameter(kind):
    config = getattr(fm, kind)().config()
    assert set(config) - {"type"} == {name for example, name in CASES if example.startswith(f"{kind}-")}


@pytest.mark.parametrize("by_step", [False, True], ids=["fit", "step"])
@pytest.mark.parametrize("example, name", CASES)
@pytest.mark.sampled
def test_a_parameter_that_changes(example, name, by_step):
    y = loss_zoo.targets_of(example, np.random.default_rng(1), len(X))

    def train(changes=True):
        loss = copy.deepcopy(loss_zoo.make(example))
        # Softmax outputs are valid for losses on logits and for losses on probabilities.
        last = [fm.Softmax()] if example in loss_zoo.OF_CLASSES else []
        model = fm.Sequential(fm.MLP(9, [8], loss_zoo.COLUMNS, "tanh", dtype="float64", rng=0), *last)
        trainer = fm.Trainer(model, loss, fm.SGD(0.02, 0.9))
        for second in (False, True):
            if second and changes:
                change(loss, name)
            for _ in range(3):
                if by_step:
                    trainer.step(X, y)
            if not by_step:
                trainer.fit(X, y, batch_size=13, epochs=1, rng=3, threads=1)
        return trainer

    with modules_only():
        ref = train()
    comp, unchanged = train(), train(changes=False)
    assert comp._session is not None
    moved = 0.0
    for key, array in ref.model.state_dict().items():
        np.testing.assert_allclose(comp.model.state_dict()[key], array, 1e-10, 1e-10, err_msg=key)
        moved = max(moved, float(np.abs(array - unchanged.model.state_dict()[key]).max()))
    assert moved > 1e-6
