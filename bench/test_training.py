"""A whole training step: forward, loss, backward, update."""

from __future__ import annotations

import numpy as np
import pytest

import fastmlp as fm

CASES = {
    # name: (inputs, hidden, outputs, activation, optimizer, batch)
    "cifar10": (3072, [100], 10, "elu", lambda: fm.SGD(lr=1e-3), 200),
    "figure-1": (3072, [40, 50, 40], 10, "elu", lambda: fm.SGD(lr=1e-3), 200),
    "tabular": (30, [64, 64], 2, "relu", lambda: fm.Adam(lr=1e-3), 32),
    "one": (8, [16], 2, "tanh", lambda: fm.SGD(lr=1e-3), 1),
}


@pytest.mark.parametrize("case", CASES)
def test_training_step(benchmark, backend, case, draw):
    inputs, hidden, outputs, activation, optimizer, batch = CASES[case]
    with fm.use_backend(backend.name):
        model = fm.MLP(inputs, hidden, outputs, activation=activation, rng=42)
        trainer = fm.Trainer(model, fm.CrossEntropyLoss(), optimizer())
    x, y = draw(batch, inputs), np.arange(batch) % outputs
    first = trainer.step(x, y)
    benchmark(trainer.step, x, y)
    assert trainer.step(x, y) < first  # the model fits its only batch


@pytest.mark.parametrize("case", ["tabular", "one"])
def test_step_from_a_gradient(benchmark, case, draw):
    """Forward pass, a gradient of the caller's own, backward pass and update."""
    inputs, hidden, outputs, activation, optimizer, batch = CASES[case]
    with fm.use_backend("numba"):
        model = fm.MLP(inputs, hidden, outputs, activation=activation, rng=42)
        stepper = fm.Trainer(model, fm.MSELoss(), optimizer()).stepper(batch, check=False)
    x = draw(batch, inputs)

    def step():
        stepper.backward(stepper.forward(x))  # of half the squares of the outputs

    step()
    before = (stepper.infer(x) ** 2).sum()
    benchmark(step)
    assert (stepper.infer(x) ** 2).sum() < before
